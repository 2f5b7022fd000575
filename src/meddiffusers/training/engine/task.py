"""The interface of training tasks.

A task is a small object that defines what is trained, on which data and with which loss, how it is validated, and which
pipeline results. Devices, processes, precision, optimisers and checkpoints belong to the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from torch import Tensor, nn

from meddiffusers.training.engine.randomness import BatchRandom

if TYPE_CHECKING:
    from PIL.Image import Image

Batch: TypeAlias = dict[str, Any]


class MapDataset(Protocol):
    """A map-style data set. If it has `__getitems__(indices)`, a micro-batch is fetched with one call."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


@dataclass
class Validation:
    """Result of a validation: metrics for the log, and figures by name."""

    metrics: dict[str, float] = field(default_factory=dict)
    images: dict[str, Image] = field(default_factory=dict)


class Task(Protocol):
    """The interface between the engine and a task."""

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The networks by component name. Their parameters with `requires_grad` are trained."""

    @property
    def train_dataset(self) -> MapDataset:
        """The training samples."""

    def collate(self, items: list[Any]) -> Batch:
        """Combine samples into a batch; runs in the workers of the loader."""

    def loss(self, modules: Mapping[str, nn.Module], batch: Batch, random: BatchRandom) -> dict[str, Tensor]:
        """Compute the loss.

        Losses are means over the samples of this process; a loss over pairs of samples needs `gather_with_gradient`.

        Args:
            modules: The networks, prepared by accelerate. Use them only by calling them, since methods other than
                `forward` would bypass mixed precision and the exchange of gradients between processes.
            batch: What `collate` returned, on the device.
            random: Source of random numbers that do not depend on the number of processes.

        Returns:
            Scalars by name, with the same names at each call: "loss" is minimised, the others are logged.
        """

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        """Compute metrics and figures, without gradients, in eval mode, and with EMA weights if they are kept.

        This runs only on the main process, so it must not wait for others.
        """

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> Any:
        """Build what is saved and published: a pipeline with the trained modules, or a component of one."""

    def save(self, pipeline: Any, folder: Path) -> None:
        """Save the pipeline, or the part of it that was trained, into `folder`, which may not exist."""
