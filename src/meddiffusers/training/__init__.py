"""The training engine: one loop on accelerate that every task uses and that knows none of them."""

from meddiffusers.training.config import TrainingConfig
from meddiffusers.training.distributed import gather_with_gradient
from meddiffusers.training.engine import TrainingResult, train
from meddiffusers.training.fields import Range, check_fields
from meddiffusers.training.parsing import parse_config
from meddiffusers.training.randomness import BatchRandom
from meddiffusers.training.task import Batch, MapDataset, Task, Validation

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
