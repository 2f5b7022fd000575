"""Builds the parts of a run from its configuration: accelerator, networks, optimiser, EMA, learning rate."""

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
from meddiffusers.training.engine.precision import supported_precision
from meddiffusers.training.engine.state import TrainingState

logger = logging.getLogger(__name__)

_SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """The `Accelerator` of this process.

    Raises:
        ValueError: fp16 on a CPU, or accelerate is configured to shard one network over several processes.
    """
    folder, precision = Path(config.output_dir), supported_precision(config.mixed_precision)
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # lets processes of torchrun find each other on CPUs
        mixed_precision=precision,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        log_with=config.trackers or None,
        project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "logs")),
        # The other processes wait while the main process validates or writes.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=3))],
    )
    if accelerator.distributed_type in _SHARDED:
        raise ValueError(
            f"accelerate is configured for {accelerator.distributed_type.value}; expected one process or plain data "
            "parallelism, since checkpoints hold whole networks. Run `accelerate config` again or `accelerate launch "
            "--multi_gpu`."
        )
    if precision != config.mixed_precision and accelerator.is_main_process:
        logger.warning(
            "This %s has no instructions for %s; the run uses float32, which is faster here.",
            "processor" if accelerator.device.type == "cpu" else "GPU",
            config.mixed_precision,
        )
    if accelerator.device.type == "cpu":
        _warn_about_idle_cores(accelerator.num_processes)
    return accelerator


def available_cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _warn_about_idle_cores(processes: int) -> None:
    cores = available_cores()
    if processes == 1 and os.environ.get("OMP_NUM_THREADS") == "1" and cores > 1:
        logger.warning(
            "This run uses one of %d cores, the default of `accelerate launch` on a CPU. Set OMP_NUM_THREADS=%d, or "
            "give `accelerate launch` --num_cpu_threads_per_process.",
            cores,
            cores,
        )


def batch_division(config: TrainingConfig, accelerator: Accelerator) -> Division:
    """How the samples of an optimiser step are divided, and the share of this process."""
    return Division(
        config.train_batch_size,
        config.gradient_accumulation_steps,
        accelerator.num_processes,
        accelerator.process_index,
    )


def prepare_modules(
    modules: Mapping[str, Any], config: TrainingConfig, accelerator: Accelerator
) -> dict[str, nn.Module]:
    """The networks in train mode, on their device, wrapped for mixed precision and data parallelism.

    Raises:
        ValueError: gradient checkpointing is configured, and no network supports it.
    """
    for module in modules.values():
        module.train()
    if config.gradient_checkpointing:
        able = [module for module in modules.values() if getattr(module, "_supports_gradient_checkpointing", False)]
        if not able:
            kinds = ", ".join(type(module).__name__ for module in modules.values())
            raise ValueError(f"{kinds} does not support gradient checkpointing. Leave gradient_checkpointing out.")
        for module in able:  # a discriminator, say, is small and keeps its activations
            module.enable_gradient_checkpointing()
    return {name: accelerator.prepare(module) for name, module in modules.items()}


def initial_state(modules: Mapping[str, nn.Module], config: TrainingConfig, accelerator: Accelerator) -> TrainingState:
    """AdamW over the parameters of the prepared `modules` that require gradients, and EMA if configured."""
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
    """The configured learning rate schedule at the position of `state`; step it at each update."""
    for group in state.optimizer.param_groups:
        group["initial_lr"] = config.learning_rate
    return get_scheduler(
        config.lr_scheduler,
        state.optimizer,
        num_warmup_steps=config.lr_warmup_steps,
        num_training_steps=last_step,
        last_epoch=state.updates - 1,
    )


def checkpoint_facts(config: TrainingConfig, accelerator: Accelerator, position: dict[str, int]) -> dict[str, object]:
    """What a checkpoint stores beside the state: position in the data, number of processes, configuration."""
    return {"data": position, "num_processes": accelerator.num_processes, "config": dataclasses.asdict(config)}
