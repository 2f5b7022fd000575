"""The training engine: one loop on accelerate, independent of the tasks that it trains."""

from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.distributed import gather_with_gradient
from meddiffusers.training.engine.loop import TrainingResult, train
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.engine.task import Batch, MapDataset, Task, Validation
from meddiffusers.utils.settings import Range, check_fields

__all__ = [
    "Batch",
    "BatchRandom",
    "MapDataset",
    "Range",
    "Task",
    "TrainingConfig",
    "TrainingResult",
    "Validation",
    "check_fields",
    "gather_with_gradient",
    "parse_config",
    "train",
]
