"""Seeds of the samples of a run, such that runs with different seeds share no noise."""

from __future__ import annotations

import torch

STRIDE = 1_000_003  # prime, and more than the samples of a run


def sample_seed(seed: int, index: int) -> int:
    """Seed of sample `index` in a run with `seed`: `seed · 1_000_003 + index`."""
    return seed * STRIDE + index


def sample_generators(seed: int, count: int, first: int = 0) -> list[torch.Generator]:
    """Generators of the samples `first` to `first + count - 1`, independent of how they are batched."""
    return [torch.Generator().manual_seed(sample_seed(seed, first + index)) for index in range(count)]
