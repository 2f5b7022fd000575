"""What the engine trains: a task is a small object that holds the networks and knows their loss.

A task says what is trained, on what, with which loss, how progress is shown and which pipeline comes out. It knows
nothing of devices, processes, precision, optimisers or checkpoints; those are the engine's.
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
    """A map-style data set; where it also has ``__getitems__(indices)``, a micro-batch is fetched with one call."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


@dataclass
class Validation:
    """What a validation found: numbers for the log, and images by name."""

    metrics: dict[str, float] = field(default_factory=dict)
    images: dict[str, Image] = field(default_factory=dict)


class Task(Protocol):
    """The interface between the engine and what is trained."""

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The networks by component name. Their parameters with ``requires_grad`` are trained."""

    @property
    def train_dataset(self) -> MapDataset:
        """The training samples."""

    def collate(self, items: list[Any]) -> Batch:
        """Makes one batch of a list of samples; runs in the loader's workers."""

    def loss(self, modules: Mapping[str, nn.Module], batch: Batch, random: BatchRandom) -> dict[str, Tensor]:
        """Scalars by name, the same names at each call: "loss" is back-propagated, the others are logged.

        ``modules`` are the networks as accelerate has prepared them: use them by calling them, since a method other
        than ``forward`` would go past mixed precision and the exchange of gradients between processes. Losses are means
        over the samples of this process; a loss over pairs of samples wants ``gather_with_gradient``. Take random
        numbers from ``random``, so that they do not depend on the number of processes.
        """

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        """Measures and draws, without gradients and in eval mode, with EMA weights where they are kept.

        Runs on the main process alone, so it must not wait for the others.
        """

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> Any:
        """What is saved and published: a pipeline of the trained modules and what else it needs, or a part of one."""

    def save(self, pipeline: Any, folder: Path) -> None:
        """Writes what the run leaves, the pipeline or what of it was trained, into ``folder``, which may not exist."""
