from __future__ import annotations

import torch

from meddiffusers.utils.seeds import sample_generators, sample_seed


def test_runs_with_neighbouring_seeds_share_no_noise() -> None:
    runs = [{sample_seed(seed, index) for index in range(100_000)} for seed in range(3)]
    assert not runs[0] & runs[1] and not runs[1] & runs[2]


def test_a_sample_has_the_same_noise_whichever_batch_it_is_in() -> None:
    whole = [torch.randn(3, generator=each) for each in sample_generators(1, 5)]
    parts = [torch.randn(3, generator=each) for each in sample_generators(1, 2) + sample_generators(1, 3, first=2)]
    assert torch.equal(torch.stack(whole), torch.stack(parts))
