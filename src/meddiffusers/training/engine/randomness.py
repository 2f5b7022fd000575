"""Random numbers as a function of the seed and the position in the run, not of earlier random numbers.

Each use of random numbers has its own seed, a hash of `(seed, stream, step, …)`. Checkpoints therefore need no state of
random number generators, and a resumed run gets the same numbers as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class Stream(IntEnum):
    """Purpose of a derived seed; streams are independent of each other."""

    ORDER = 0  # the permutation of the data set in one epoch
    FETCH = 1  # augmentation while a micro-batch is read
    NOISE = 2  # BatchRandom: the numbers that the loss of a task uses
    MODEL = 3  # torch's global generator during a micro-step: dropout
    VALIDATION = 4  # torch's global generator during validation


def derive_seed(seed: int, *key: int) -> int:
    """A 63-bit seed from a hash of `seed` and `key`: the same on every machine, unrelated for different keys."""
    digest = hashlib.blake2b(",".join(map(str, map(int, (seed, *key)))).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_libraries(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch (CPU), which augmentation code uses."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    seed_torch(seed)


def seed_torch(seed: int, device: torch.device | None = None) -> None:
    """Seed torch's global generators of the CPU and of `device`.

    `torch.manual_seed` would be slow at every step, since it queries each kind of accelerator.
    """
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


class BatchRandom:
    """The random numbers of one micro-step, independent of the number of processes that share its batch.

    Each process generates the numbers of the global batch with the same generator, and keeps the rows of its own
    samples: with batches of B, process r of W keeps rows r·B to (r+1)·B of W·B. The first axis of every shape is the
    batch of this process.
    """

    def __init__(self, seed: int, *, rank: int = 0, world_size: int = 1, device: torch.device | str = "cpu") -> None:
        self.rank, self.world_size, self.device = rank, world_size, device
        self.generator = torch.Generator(device).manual_seed(seed)

    def randn(self, *shape: int) -> Tensor:
        """Standard normal numbers, float32, in the shape (B, …) of this process."""
        return self._own(torch.randn(self._whole(shape), generator=self.generator, device=self.device), shape[0])

    def randn_like(self, x: Tensor) -> Tensor:
        """Standard normal numbers in the shape, type and device of `x` (B, …)."""
        return self.randn(*x.shape).to(x)

    def rand(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), float32, in the shape (B, …) of this process."""
        return self._own(torch.rand(self._whole(shape), generator=self.generator, device=self.device), shape[0])

    def randint(self, low: int, high: int, shape: Sequence[int]) -> Tensor:
        """Integers in [low, high), int64, in the shape (B, …) of this process."""
        whole = torch.randint(low, high, self._whole(shape), generator=self.generator, device=self.device)
        return self._own(whole, shape[0])

    def _whole(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (shape[0] * self.world_size, *shape[1:])

    def _own(self, whole: Tensor, batch: int) -> Tensor:
        return whole[self.rank * batch : (self.rank + 1) * batch]
