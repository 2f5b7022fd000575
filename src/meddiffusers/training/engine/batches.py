"""The samples that each process reads at each step, and the loader that reads them.

One optimiser step takes G = batch_size · accumulation · world_size samples. Epoch e is a permutation of the data set
that depends only on (seed, e), divided into steps of G samples; an incomplete last step is dropped. The samples of a
step, reshaped to (accumulation, world_size, batch_size), give process r its micro-batches. The samples of a step thus
do not depend on how G is divided, and a resumed run starts at a step without skipping or repeating samples.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from meddiffusers.training.engine.randomness import Stream, derive_seed, seed_libraries
from meddiffusers.training.engine.task import Batch, MapDataset


class MicroBatch(NamedTuple):
    """The share of one process in one accumulation part of one step."""

    step: int
    part: int
    indices: list[int]


@dataclass(frozen=True)
class Division:
    """How one optimiser step is divided; `batch_size` is that of one process and one accumulation part."""

    batch_size: int
    accumulation: int = 1
    world_size: int = 1
    rank: int = 0

    @property
    def samples_per_step(self) -> int:
        return self.batch_size * self.accumulation * self.world_size

    def check(self, size: int) -> None:
        """Raise ValueError if a data set of `size` samples has fewer than one step takes."""
        if size < self.samples_per_step:
            raise ValueError(
                f"The training data set has {size} samples, but one optimiser step takes {self.samples_per_step} "
                f"(train_batch_size {self.batch_size} × gradient_accumulation_steps {self.accumulation} × "
                f"{self.world_size} processes). Lower one of these, or add data."
            )


class StepBatchSampler(Sampler[MicroBatch]):
    """The endless stream of micro-batches of one process.

    Args:
        size: Number of samples in the data set.
        division: How an optimiser step is divided.
        seed: Seed of the permutations.
        start: First optimiser step.

    Raises:
        ValueError: The data set has fewer samples than one step.
    """

    def __init__(self, size: int, division: Division, *, seed: int = 0, start: int = 0) -> None:
        division.check(size)
        self.size, self.division, self.seed, self.start = size, division, seed, start

    @property
    def steps_per_epoch(self) -> int:
        return self.size // self.division.samples_per_step

    def position(self, steps_taken: int) -> dict[str, int]:
        """The position after `steps_taken` steps from the start, for `start_from`."""
        return {"step": self.start + steps_taken, **self._identity()}

    def start_from(self, position: dict[str, int]) -> bool:
        """Continue from the position of another sampler, possibly with another batch size.

        Returns:
            Whether this is exact. If not, some samples of this epoch are read twice rather than left out.
        """
        epoch, steps = divmod(position["step"], position["dataset_size"] // position["samples_per_step"])
        steps, rest = divmod(steps * position["samples_per_step"], self.division.samples_per_step)
        self.start = epoch * self.steps_per_epoch + steps
        same_order = all(position[key] == self._identity()[key] for key in ("dataset_size", "seed"))
        return same_order and rest == 0

    def _identity(self) -> dict[str, int]:
        return {"dataset_size": self.size, "samples_per_step": self.division.samples_per_step, "seed": self.seed}

    def __iter__(self) -> Iterator[MicroBatch]:
        epoch, first = divmod(self.start, self.steps_per_epoch)
        while True:
            for step, parts in enumerate(self._epoch(epoch)[first:], start=epoch * self.steps_per_epoch + first):
                for part, indices in enumerate(parts[:, self.division.rank]):
                    yield MicroBatch(step, part, indices.tolist())
            epoch, first = epoch + 1, 0

    def _epoch(self, epoch: int) -> np.ndarray:
        """The sample indices of an epoch, of shape (step, part, rank, batch)."""
        order = np.random.default_rng(derive_seed(self.seed, Stream.ORDER, epoch)).permutation(self.size)
        used = order[: self.steps_per_epoch * self.division.samples_per_step]
        return used.reshape(-1, self.division.accumulation, self.division.world_size, self.division.batch_size)


class _Fetcher(Dataset):
    """Reads a whole micro-batch, with the random state of all libraries seeded by its position in the run."""

    def __init__(self, dataset: MapDataset, seed: int, rank: int) -> None:
        self.dataset, self.seed, self.rank = dataset, seed, rank

    def __getitem__(self, micro: MicroBatch) -> list[Any]:
        seed_libraries(derive_seed(self.seed, Stream.FETCH, micro.step, micro.part, self.rank))
        fetch_at_once = getattr(self.dataset, "__getitems__", None)
        return fetch_at_once(micro.indices) if fetch_at_once else [self.dataset[i] for i in micro.indices]


def batch_loader(
    dataset: MapDataset, collate: Callable[[list[Any]], Batch], sampler: StepBatchSampler, num_workers: int = 0
) -> DataLoader:
    """An endless loader of collated micro-batches; its workers leave Ctrl-C to the main process."""
    return DataLoader(
        _Fetcher(dataset, sampler.seed, sampler.division.rank),
        batch_size=None,  # the sampler yields whole micro-batches
        sampler=sampler,
        collate_fn=collate,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_ignore_interrupt,
    )


def _ignore_interrupt(_worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
