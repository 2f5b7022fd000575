"""The parts of a run, built from its configuration: accelerator, networks, optimiser, averages, learning rate."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs, ProjectConfiguration
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from meddiffusers.training.engine.batches import Division
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.state import TrainingState

logger = logging.getLogger(__name__)

_SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """Accelerate's view of this process; raises ValueError if it was told to spread one network over several."""
    folder = Path(config.output_dir)
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # or processes of torchrun would not find each other there
        mixed_precision=config.mixed_precision,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        log_with=config.trackers or None,
        project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "logs")),
        # The others wait while the main process validates or writes.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=3))],
    )
    if accelerator.distributed_type in _SHARDED:
        raise ValueError(
            f"accelerate is configured for {accelerator.distributed_type.value}; expected one process or plain data "
            "parallelism, since checkpoints hold whole networks. Run `accelerate config` again or `accelerate launch "
            "--multi_gpu`."
        )
    if accelerator.device.type == "cpu":
        _warn_of_slowness(config, accelerator.num_processes)
    return accelerator


def _warn_of_slowness(config: TrainingConfig, processes: int) -> None:
    """Where this processor would take much longer than it must."""
    slow = torch.backends.cpu.get_cpu_capability() == "AVX2"  # of Arm's, whose name says less, some have bf16
    if config.mixed_precision == "bf16" and slow:
        logger.warning("This processor has no instructions for bf16, and is many times slower in it than without.")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if processes == 1 and os.environ.get("OMP_NUM_THREADS") == "1" and cores > 1:
        logger.warning(
            "One of %d cores is used: accelerate launch leaves it at that on a CPU. Give it "
            "--num_cpu_threads_per_process %d, or set OMP_NUM_THREADS.",
            cores,
            cores,
        )


def division_of(config: TrainingConfig, accelerator: Accelerator) -> Division:
    """How an optimiser step is divided, and this process's part in it."""
    return Division(
        config.train_batch_size,
        config.gradient_accumulation_steps,
        accelerator.num_processes,
        accelerator.process_index,
    )


def prepared_modules(
    modules: Mapping[str, Any], config: TrainingConfig, accelerator: Accelerator
) -> dict[str, nn.Module]:
    """The networks in train mode, on their device, wrapped for precision and for the exchange of gradients."""
    for module in modules.values():
        module.train()
        if config.gradient_checkpointing:
            module.enable_gradient_checkpointing()
    return {name: accelerator.prepare(module) for name, module in modules.items()}


def initial_state(modules: Mapping[str, nn.Module], config: TrainingConfig, accelerator: Accelerator) -> TrainingState:
    """AdamW over the parameters of the prepared ``modules`` that require a gradient, and averages if wanted."""
    bare = {name: accelerator.unwrap_model(module) for name, module in modules.items()}
    optimizer = torch.optim.AdamW(
        [parameter for module in bare.values() for parameter in module.parameters() if parameter.requires_grad],
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        weight_decay=config.adam_weight_decay,
        eps=config.adam_epsilon,
    )
    averaged = bare.items() if config.use_ema else ()
    averages = {name: EMAModel(module.parameters(), decay=config.ema_decay, foreach=True) for name, module in averaged}
    return TrainingState(bare, averages, optimizer, accelerator.scaler)


def make_lr_scheduler(state: TrainingState, config: TrainingConfig, last_step: int) -> LambdaLR:
    """The configured course of the learning rate, standing where ``state`` stands; to be stepped at each update."""
    for group in state.optimizer.param_groups:
        group["initial_lr"] = config.learning_rate
    return get_scheduler(
        config.lr_scheduler,
        state.optimizer,
        num_warmup_steps=config.lr_warmup_steps,
        num_training_steps=last_step,
        last_epoch=state.updates - 1,
    )


def facts_of(config: TrainingConfig, accelerator: Accelerator, position: dict[str, int]) -> dict[str, object]:
    """What a checkpoint records beside the state: where the data stand, and how they came there."""
    return {"data": position, "num_processes": accelerator.num_processes, "config": dataclasses.asdict(config)}
