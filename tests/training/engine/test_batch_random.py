"""Random numbers: derived seeds, and draws that several processes share."""

from __future__ import annotations

import torch

from meddiffusers.training import BatchRandom
from meddiffusers.training.engine.randomness import Stream, derive_seed


def test_seeds_are_fixed_and_distinct() -> None:
    assert derive_seed(0, Stream.NOISE, 5, 0) == 1086434948749482842
    keys = [(stream, step, part) for stream in Stream for step in range(50) for part in range(4)]
    assert len({derive_seed(seed, *key) for key in keys for seed in (0, 1)}) == 2 * len(keys)


def draws(random: BatchRandom, batch: int) -> list[torch.Tensor]:
    like = torch.empty(batch, 3, dtype=torch.float64)
    shape = (batch, 2, 5)
    return [random.randn(*shape), random.rand(batch), random.randint(3, 9, shape), random.randn_like(like)]


def test_processes_together_draw_what_one_process_draws() -> None:
    whole = draws(BatchRandom(9), 12)
    shares = [draws(BatchRandom(9, rank=rank, world_size=3), 4) for rank in range(3)]
    for index, expected in enumerate(whole):
        joined = torch.cat([share[index] for share in shares])
        assert joined.dtype == expected.dtype
        assert torch.equal(joined, expected)


def test_draws_have_the_distributions_they_are_named_for() -> None:
    random = BatchRandom(1)
    normal, uniform, whole = random.randn(100, 1000), random.rand(100, 1000), random.randint(-2, 3, (100, 1000))
    # Five standard errors of 1e5 draws.
    assert abs(normal.mean()) < 5e-2 / 10**0.5 and abs(normal.var() - 1) < 5 * (2e-5) ** 0.5
    assert uniform.min() >= 0 and uniform.max() < 1 and abs(uniform.mean() - 0.5) < 5 * (1e-5 / 12) ** 0.5
    assert whole.unique().tolist() == [-2, -1, 0, 1, 2]


def test_drawing_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    draws(BatchRandom(1), 4)
    assert torch.equal(torch.get_rng_state(), state)
