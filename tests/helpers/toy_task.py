"""A task with 58 parameters that records its batches, for tests of the engine."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState, GradientState
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from PIL import Image
from torch import Tensor, nn

from meddiffusers.training import (
    Batch,
    BatchRandom,
    TrainingConfig,
    TrainingResult,
    Validation,
    gather_with_gradient,
    train,
)

Start = Callable[..., list[BaseProcess]]  # the fixture ``start``


class ToyNet(ModelMixin, ConfigMixin):
    """(B, 4) → (B, 2)."""

    @register_to_config
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class ToyPipeline(DiffusionPipeline):
    def __init__(self, net: ToyNet) -> None:
        super().__init__()
        self.register_modules(net=net)


class ToyData:
    """Sample i is (i, x, y), y a function of x; ``jitter`` is augmentation from numpy's global generator."""

    def __init__(self, size: int, jitter: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(7)
        self.x = torch.randn(size, 4, generator=generator)
        self.y = torch.stack([self.x.sum(dim=1).sin(), self.x[:, 0] * self.x[:, 1]], dim=1)
        self.jitter = jitter

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[int, Tensor, Tensor]:
        return index, self.x[index] + self.jitter * float(np.random.normal()), self.y[index]


@dataclass
class ToyTask:
    """Regression with noise on the input; ``pairwise`` adds a loss over all pairs of the global batch."""

    size: int = 40
    dropout: float = 0.0
    noise: float = 0.1
    jitter: float = 0.0
    pairwise: bool = False
    pause: float = 0.0  # seconds a micro-step takes at least
    account: str | None = None  # file to which each micro-batch's sample numbers are appended
    train_dataset: ToyData = field(init=False)
    modules: dict[str, ToyNet] = field(init=False)
    seen: list[list[int]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.train_dataset = ToyData(self.size, self.jitter)
        with torch.random.fork_rng():
            torch.manual_seed(11)
            self.modules = {"net": ToyNet(dropout=self.dropout)}

    def collate(self, items: list[Any]) -> dict[str, Tensor]:
        indices, x, y = zip(*items, strict=True)
        return {"index": torch.tensor(indices), "x": torch.stack(x), "y": torch.stack(y)}

    def loss(self, modules: Mapping[str, nn.Module], batch: Batch, random: BatchRandom) -> dict[str, Tensor]:
        time.sleep(self.pause)
        self.seen.append(batch["index"].tolist())
        if self.account:
            with Path(self.account).open("a") as file:
                file.write(json.dumps(self.seen[-1]) + "\n")
        x, y = batch["x"], batch["y"]
        error = modules["net"](x + self.noise * random.randn_like(x)) - y
        losses = {"loss": error.square().mean()}
        if self.pairwise:
            every = gather_with_gradient(error)
            losses["pairs"] = (every[:, None] - every[None]).abs().mean()
            losses["loss"] = losses["loss"] + losses["pairs"]
        return losses

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        error = modules["net"](self.train_dataset.x) - self.train_dataset.y
        image = Image.fromarray(np.full((4, 6), min(step, 255), dtype=np.uint8))
        return Validation({"error": float(error.square().mean())}, {"image": image})

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> ToyPipeline:
        return ToyPipeline(modules["net"])

    def save(self, pipeline: ToyPipeline, folder: Path) -> None:
        pipeline.save_pretrained(folder)


def run_toy(output_dir: Path, toy: dict[str, Any] | ToyTask | None = None, **settings: Any) -> TrainingResult:
    """Trains a toy as a fresh process would; two samples a step and no warm-up by default."""
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    GradientState._reset_state()
    torch.set_num_threads(1)
    defaults = {"train_batch_size": 2, "learning_rate": 1e-2, "lr_warmup_steps": 0, "max_train_steps": 20}
    task = toy if isinstance(toy, ToyTask) else ToyTask(**(toy or {}))
    return train(task, TrainingConfig(output_dir=str(output_dir), **{**defaults, **settings}))


def run_toys(runs: list[dict[str, Any]], environment: dict[str, str]) -> None:
    """Several runs, one after the other, in a process of its own; what a launcher says stands in ``environment``."""
    os.environ.update(environment)
    for run in runs:
        run_toy(**run)
