"""One rule for the seed of each of many samples, so that runs with different seeds share no noise."""

from __future__ import annotations

import torch

STRIDE = 1_000_003  # prime, and more than the samples of a run


def sample_seed(seed: int, index: int) -> int:
    """The seed of the sample with number ``index`` in a run with ``seed``: ``seed · 1_000_003 + index``."""
    return seed * STRIDE + index


def sample_generators(seed: int, count: int, first: int = 0) -> list[torch.Generator]:
    """A generator for each of the samples ``first`` to ``first + count - 1``, whichever batch they are in."""
    return [torch.Generator().manual_seed(sample_seed(seed, first + index)) for index in range(count)]
