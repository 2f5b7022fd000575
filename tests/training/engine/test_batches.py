"""Which samples are read, and with which random state: functions of the place in the run alone."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from meddiffusers.training.engine.batches import Division, StepBatchSampler, batch_loader


def stream(sampler: StepBatchSampler, count: int) -> list[list[int]]:
    return [micro.indices for micro in islice(sampler, count)]


def test_an_epoch_reads_each_sample_once_and_drops_the_incomplete_step() -> None:
    sampler = StepBatchSampler(23, Division(5), seed=3)
    epochs = [np.concatenate(stream(sampler, 12)[4 * epoch : 4 * epoch + 4]) for epoch in range(3)]
    assert sampler.steps_per_epoch == 4
    assert all(len(set(epoch)) == 20 and set(epoch) <= set(range(23)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert set(np.concatenate(epochs)) == set(range(23))  # what one epoch drops, others read
    assert stream(StepBatchSampler(23, Division(5), seed=4), 4) != stream(sampler, 4)


@pytest.mark.parametrize("start", [0, 1, 3, 4, 9])
def test_starting_later_is_the_rest_of_the_same_stream(start: int) -> None:
    division = Division(2, accumulation=2)
    whole = list(islice(StepBatchSampler(17, division), 40))
    assert list(islice(StepBatchSampler(17, division, start=start), 40 - 2 * start)) == whole[2 * start :]


@pytest.mark.parametrize(("accumulation", "world_size"), [(1, 4), (4, 1), (2, 2)])
def test_division_does_not_change_a_steps_samples(accumulation: int, world_size: int) -> None:
    whole = stream(StepBatchSampler(50, Division(12)), 9)
    shares = [
        stream(StepBatchSampler(50, Division(3, accumulation, world_size, rank)), 9 * accumulation)
        for rank in range(world_size)
    ]
    steps = [
        [i for part in range(accumulation) for share in shares for i in share[step * accumulation + part]]
        for step in range(9)
    ]
    assert steps == whole


def test_too_small_a_data_set_is_refused() -> None:
    message = (
        r"has 11 samples, but one optimiser step takes 12 \(train_batch_size 3 × .*_steps 2 × 2 processes\). Lower"
    )
    with pytest.raises(ValueError, match=message):
        StepBatchSampler(11, Division(3, 2, 2))


@pytest.mark.parametrize(
    ("samples", "steps", "start", "exact"),
    [
        (4, 7, 7, True),
        (2, 14, 7, True),  # 28 samples of 48 an epoch
        (2, 24 + 3, 12 + 1, False),  # an epoch and 6 samples, of which 4 make a step
        (8, 6 + 1, 12 + 2, True),
    ],
)
def test_position_is_kept_when_the_batch_size_changes(samples: int, steps: int, start: int, exact: bool) -> None:
    sampler = StepBatchSampler(48, Division(4))
    assert sampler.start_from(StepBatchSampler(48, Division(samples)).position(steps)) is exact
    assert sampler.start == start


@pytest.mark.parametrize("other", [StepBatchSampler(49, Division(4)), StepBatchSampler(48, Division(4), seed=1)])
def test_another_data_set_or_seed_is_not_exact(other: StepBatchSampler) -> None:
    assert not StepBatchSampler(48, Division(4)).start_from(other.position(3))


class Counted:
    """Fetches several samples at once, and adds noise from numpy's global generator."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> float:
        raise AssertionError("__getitems__ should be used")

    def __getitems__(self, indices: list[int]) -> list[float]:
        return [index + np.random.random() / 2 for index in indices]


@pytest.mark.slow
def test_samples_are_fetched_at_once_and_chance_depends_on_the_place_not_on_the_workers() -> None:
    def batches(workers: int, start: int, rank: int = 0) -> list[list[float]]:
        sampler = StepBatchSampler(10, Division(2, world_size=2, rank=rank), start=start)
        return list(islice(batch_loader(Counted(), list, sampler, workers), 6 - start))

    alone = batches(0, 0)
    fractions = {value % 1 for batch in alone + batches(0, 0, rank=1) for value in batch}
    assert batches(2, 0) == alone
    assert batches(0, 3) == alone[3:]
    assert len(fractions) == 24
