"""The training loop on accelerate, the same for every task.

A step: fetch → task.loss → backward (accumulate) → clip → AdamW → learning rate → EMA; then, when due: log, write a
checkpoint, validate. All random numbers are derived from the seed and the step. A run that is killed and resumed from
its last checkpoint therefore gives bit for bit the result of an uninterrupted run, and several processes give the
result of one process with the whole batch.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import nn

from meddiffusers.training.engine.assembly import (
    batch_division,
    checkpoint_facts,
    initial_state,
    make_accelerator,
    make_lr_scheduler,
    prepare_modules,
)
from meddiffusers.training.engine.batches import StepBatchSampler, batch_loader
from meddiffusers.training.engine.checkpoints import Checkpoints
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.distributed import Agreement
from meddiffusers.training.engine.logs import LossHistory, RunLog, require_trackers
from meddiffusers.training.engine.output import save_over_earlier
from meddiffusers.training.engine.randomness import BatchRandom, Stream, derive_seed, seed_torch
from meddiffusers.training.engine.running import exclusive_output
from meddiffusers.training.engine.stopping import Stop, StopSignals
from meddiffusers.training.engine.task import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """Result of a run: the networks (with EMA weights, if kept) and the pipeline, which is saved in `output_dir`."""

    pipeline: Any
    modules: dict[str, nn.Module]
    output_dir: Path
    step: int
    seconds: float
    stopped_by_time: bool


def train(task: Task, config: TrainingConfig) -> TrainingResult:
    """Train a task until a limit of the configuration is reached, and save its pipeline in `config.output_dir`.

    Args:
        task: What to train.
        config: Settings of the run.

    Raises:
        ValueError, ImportError: Before training, if the configuration does not fit, or another run writes into the
            output folder.
        CheckpointError: A checkpoint cannot be read or written.
        FloatingPointError: The loss or a weight is no longer finite.
        SystemExit: SIGTERM or Ctrl-C was received; a checkpoint has been written.
    """
    with exclusive_output(config.output_dir):
        return _Run(task, config).result()


class _Run:
    """One run: `__init__` sets it up, `result` trains."""

    def __init__(self, task: Task, config: TrainingConfig) -> None:
        require_trackers(config.trackers)
        self.task, self.config, self.output_dir = task, config, Path(config.output_dir)
        self.checkpoints = Checkpoints(self.output_dir, config.checkpoints_total_limit)
        checkpoint = self.checkpoints.find(config.resume_from_checkpoint)
        self.accelerator = make_accelerator(config)
        self.sampler = StepBatchSampler(
            len(task.train_dataset), batch_division(config, self.accelerator), seed=config.seed
        )
        self.modules = prepare_modules(task.modules, config, self.accelerator)
        self.state = initial_state(self.modules, config, self.accelerator)
        self.checkpoints.require_space(self.state.nbytes())
        if checkpoint:
            self._resume(checkpoint)
        elif config.resume_from_checkpoint:
            self.accelerator.print(f"There is no checkpoint in '{self.output_dir}' yet; starting a new run.")
        self.first_step = self.saved_step = self.state.step
        epochs_left = self.config.num_train_epochs * self.sampler.steps_per_epoch - self.sampler.start
        self.last_step = config.max_train_steps or self.first_step + max(0, epochs_left)
        self.lr_scheduler = make_lr_scheduler(self.state, config, self.last_step)

    def result(self) -> TrainingResult:
        """Train, save, and print where the pipeline is."""
        with StopSignals() as self.signals:
            self._begin()
            try:
                while not (stop := self._stop()):
                    self._step()
                    self._do_what_is_due()
                self._checkpoint()
                self._leave_on_signal(stop)
                result = self._finish(stop)
            finally:
                self.log.close()
        minutes = result.seconds / 60
        self.accelerator.print(f"{result.step} steps in {minutes:.1f} minutes; the pipeline is in '{self.output_dir}'.")
        return result

    def _resume(self, checkpoint: Path) -> None:
        self.accelerator.print(f"Resuming from '{checkpoint}'.")
        self.state.load(checkpoint)
        if not self.sampler.start_from(self.state.facts["data"]) and self.accelerator.is_main_process:
            logger.warning(
                "The samples per step, the data set or the seed differ from '%s': the data cannot continue at exactly "
                "the same position, and some samples of this epoch may be read twice or not at all.",
                checkpoint,
            )

    def _begin(self) -> None:
        if self.accelerator.is_main_process:
            self.checkpoints.remove_partial()
        self.started = time.monotonic() - self.state.seconds
        self.agreement, self.history = Agreement(), LossHistory()
        self.log = RunLog(self.accelerator, self.output_dir, first_step=self.first_step, last_step=self.last_step)
        self.accelerator.init_trackers(self.config.tracker_project_name, config=dataclasses.asdict(self.config))
        workers = self.config.dataloader_num_workers
        self.batches = iter(batch_loader(self.task.train_dataset, self.task.collate, self.sampler, workers))

    def _stop(self) -> Stop:
        self.state.seconds = time.monotonic() - self.started
        late = self.state.seconds >= 60 * (self.config.max_train_minutes or math.inf)
        own = Stop.TIME if late else Stop.NOT_YET
        if self.state.step >= self.last_step:
            own = Stop.STEPS
        if self.signals.received:
            own = Stop.SIGNAL
        return Stop(self.agreement.maximum(own))

    def _step(self) -> None:
        self.history.begin_step()
        for part in range(self.config.gradient_accumulation_steps):
            batch = send_to_device(next(self.batches), self.accelerator.device, non_blocking=True)
            with self.accelerator.accumulate(*self.modules.values()):
                losses = self.task.loss(self.modules, batch, self._random(part))
                self.history.add(losses)
                self.accelerator.backward(losses["loss"])
        if self.state.update(self.config.max_grad_norm):
            self.lr_scheduler.step()
        self.state.step += 1
        self.log.bar.update()

    def _random(self, part: int) -> BatchRandom:
        """The random numbers of a micro-step; seeds torch's global generator, too."""
        seed, key, rank = self.config.seed, (self.state.step, part), self.accelerator.process_index
        seed_torch(derive_seed(seed, Stream.MODEL, *key, rank), self.accelerator.device)
        return BatchRandom(
            derive_seed(seed, Stream.NOISE, *key),
            rank=rank,
            world_size=self.accelerator.num_processes,
            device=self.accelerator.device,
        )

    def _do_what_is_due(self) -> None:
        step, config = self.state.step, self.config
        if step % config.logging_steps == 0:
            self._log_losses()
        if step % config.checkpointing_steps == 0:
            self._checkpoint()
        if config.validation_steps and step % config.validation_steps == 0:
            self._validate()

    def _log_losses(self) -> None:
        """Log the mean losses since the last logging, and find the first step with a loss that is not finite."""
        if not len(self.history):
            return
        step, losses = self.state.step, self.history.collect(self.accelerator)
        wrong = np.flatnonzero(~np.isfinite(losses["loss"]))
        if len(wrong):
            first = step - len(losses["loss"]) + 1 + wrong[0]
            self._diverged(f"The loss is {losses['loss'][wrong[0]]} at step {first}.")
        means = {name: float(series.mean()) for name, series in losses.items()}
        epoch = self._position()["step"] / self.sampler.steps_per_epoch
        lr = float(self.lr_scheduler.get_last_lr()[0])
        self.log.training(step, {**means, "lr": lr, "epoch": epoch, "seconds": self.state.seconds})

    def _checkpoint(self) -> None:
        self._log_losses()
        if self.saved_step == self.state.step:
            return
        if not self.state.is_finite():
            self._diverged(f"Some weights are NaN or infinite after step {self.state.step}.")
        self.state.facts = checkpoint_facts(self.config, self.accelerator, self._position())
        if self.accelerator.is_main_process:
            self.checkpoints.write(self.state.step, self.state.save)
        self.accelerator.wait_for_everyone()
        self.saved_step = self.state.step

    def _validate(self) -> None:
        if self.accelerator.is_main_process:
            seed = derive_seed(self.config.seed, Stream.VALIDATION, self.state.step)
            seed_torch(seed, self.accelerator.device)
            modules = self.state.modules
            with torch.no_grad(), self.state.averaged():
                result = self.task.validate({name: module.eval() for name, module in modules.items()}, self.state.step)
            for module in modules.values():
                module.train()
            self.log.validation(self.state.step, result)
        self.accelerator.wait_for_everyone()

    def _position(self) -> dict[str, int]:
        return self.sampler.position(self.state.step - self.first_step)

    def _diverged(self, what: str) -> NoReturn:
        complete = self.checkpoints.complete()
        remedy = f"Resume from '{complete[-1]}'" if complete else "There is no checkpoint yet; start a new run"
        raise FloatingPointError(
            f"{what} {remedy} with a lower --learning_rate or --max_grad_norm, or with --mixed_precision no, and look "
            "for NaN in the data."
        )

    def _leave_on_signal(self, stop: Stop) -> None:
        if stop is Stop.SIGNAL:
            name = self.signals.received.name if self.signals.received else "a signal to another process"
            raise SystemExit(
                f"Stopped by {name} after step {self.state.step}; nothing is lost. Go on with the same command and "
                "--resume_from_checkpoint latest."
            )

    def _finish(self, stop: Stop) -> TrainingResult:
        if self.config.validation_steps and self.state.step % self.config.validation_steps:
            self._validate()
        for name, average in self.state.averages.items():
            average.copy_to(self.state.modules[name].parameters())
        modules = {
            name: self.accelerator.unwrap_model(module, keep_fp32_wrapper=False).eval()
            for name, module in self.modules.items()
        }
        pipeline = self.task.build_pipeline(modules)
        if self.accelerator.is_main_process:
            save_over_earlier(partial(self.task.save, pipeline), self.output_dir)
        self.accelerator.wait_for_everyone()
        return TrainingResult(
            pipeline, modules, self.output_dir, self.state.step, self.state.seconds, stop is Stop.TIME
        )
