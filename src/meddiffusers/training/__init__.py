"""The training engine: one loop on accelerate that every task uses and that knows none of them."""

from .config import TrainingConfig
from .distributed import gather_with_gradient
from .engine import TrainingResult, train
from .fields import Range, check_fields
from .parsing import parse_config
from .randomness import BatchRandom
from .task import Batch, MapDataset, Task, Validation

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
