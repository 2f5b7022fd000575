"""Random numbers as a function of the run's seed and the place in the run, never of what was drawn before.

Every use of chance has its own seed, a hash of ``(seed, stream, step, …)``. Nothing random has a history, so no
generator state need be stored in a checkpoint, and a resumed run draws what an uninterrupted one would have drawn.
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
    """What a derived seed is for: streams are independent of each other."""

    ORDER = 0  # the permutation of the data set in one epoch
    FETCH = 1  # augmentation while a micro-batch is read
    NOISE = 2  # BatchRandom: the numbers a task's loss asks for
    MODEL = 3  # torch's global generator during a micro-step: dropout
    VALIDATION = 4  # torch's global generator during validation


def derive_seed(seed: int, *key: int) -> int:
    """A 63-bit seed, a hash of ``seed`` and ``key``: the same on every machine, unrelated for different keys."""
    digest = hashlib.blake2b(",".join(map(str, map(int, (seed, *key)))).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_libraries(seed: int) -> None:
    """Seeds the global generators of Python, numpy and torch's CPU: what augmentation code draws from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    seed_torch(seed)


def seed_torch(seed: int, device: torch.device | None = None) -> None:
    """Seeds torch's global generators of the CPU and of ``device``.

    At every step ``torch.manual_seed`` would be dear: it asks each kind of accelerator there might be.
    """
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


class BatchRandom:
    """The random numbers of one micro-step, the same however many processes share its batch.

    Each process draws for the global batch from the same generator and keeps the rows of its own samples: process r of
    W with a batch of B keeps rows r·B to (r+1)·B of W·B. The first axis of every shape is the batch of this process.
    """

    def __init__(self, seed: int, *, rank: int = 0, world_size: int = 1, device: torch.device | str = "cpu") -> None:
        self.rank, self.world_size, self.device = rank, world_size, device
        self.generator = torch.Generator(device).manual_seed(seed)

    def randn(self, *shape: int) -> Tensor:
        """Standard normal numbers, float32, of this process's ``shape`` (B, …)."""
        return self._own(torch.randn(self._whole(shape), generator=self.generator, device=self.device), shape[0])

    def randn_like(self, x: Tensor) -> Tensor:
        """Standard normal numbers of the shape, type and device of ``x`` (B, …)."""
        return self.randn(*x.shape).to(x)

    def rand(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), float32, of this process's ``shape`` (B, …)."""
        return self._own(torch.rand(self._whole(shape), generator=self.generator, device=self.device), shape[0])

    def randint(self, low: int, high: int, shape: Sequence[int]) -> Tensor:
        """Whole numbers in [low, high), int64, of this process's ``shape`` (B, …)."""
        whole = torch.randint(low, high, self._whole(shape), generator=self.generator, device=self.device)
        return self._own(whole, shape[0])

    def _whole(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (shape[0] * self.world_size, *shape[1:])

    def _own(self, whole: Tensor, batch: int) -> Tensor:
        return whole[self.rank * batch : (self.rank + 1) * batch]
