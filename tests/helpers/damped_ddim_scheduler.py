"""A scheduler that obeys the publishing rules, for a stock pipeline to hold: DDIM, every step scaled by `damping`."""

from __future__ import annotations

import shutil
from os import PathLike
from pathlib import Path
from typing import Any

from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_ddim import DDIMScheduler, DDIMSchedulerOutput

PUBLISHED_AS = "meddiffusers_damped_ddim_scheduler_v1"


class DampedDDIMScheduler(DDIMScheduler):
    """DDIM whose steps give `damping` times what DDIM's give."""

    _compatibles = ["DDIMScheduler", "DampedDDIMScheduler"]

    @register_to_config
    def __init__(self, num_train_timesteps: int = 1000, damping: float = 0.5) -> None:
        super().__init__(num_train_timesteps=num_train_timesteps)
        self.__module__ = PUBLISHED_AS

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """DDIM's step, damped."""
        output: Any = super().step(*args, **kwargs)
        return DDIMSchedulerOutput(self.config["damping"] * output.prev_sample, output.pred_original_sample)

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration and this file."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))
