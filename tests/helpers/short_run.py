"""A short training in the process of the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, GradientState

from meddiffusers.training import TrainingConfig, TrainingResult, train
from meddiffusers.training.engine.task import Task


def run(task: Task, folder: Path, **settings: Any) -> TrainingResult:
    """Trains as a fresh process would; four images a step and no warm-up by default."""
    torch.set_num_threads(1)
    defaults = {"train_batch_size": 4, "learning_rate": 3e-3, "lr_warmup_steps": 0, "max_train_steps": 4}
    forget_accelerator()
    result = train(task, TrainingConfig(output_dir=str(folder), **{**defaults, **settings}))
    forget_accelerator()
    return result


def forget_accelerator() -> None:
    """Or a process would be held to the precision of its first run."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
