from __future__ import annotations

import itertools

import numpy as np
import pytest

from meddiffusers.evaluation.metrics.energy_distance import energy_distance


def maps(n: int, seed: int, chance: float = 0.4) -> np.ndarray:
    """(n, 6, 5) random label maps 0 to 3."""
    rng = np.random.default_rng(seed)
    return (rng.integers(1, 4, (n, 6, 5)) * (rng.random((n, 6, 5)) < chance)).astype(np.uint8)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    first, second = ({tuple(place) for place in np.argwhere(of)} for of in (a, b))
    return 1 - len(first & second) / len(first | second) if first | second else 0.0


def by_loops(samples: np.ndarray, raters: np.ndarray, unbiased: bool) -> float:
    def within(of: np.ndarray) -> float:
        pairs = itertools.permutations(of, 2) if unbiased else itertools.product(of, of)
        distances = [distance(a, b) for a, b in pairs]
        return float(np.mean(distances)) if distances else 0.0

    across = np.mean([distance(a, b) for a in samples for b in raters])
    return float(2 * across - within(samples) - within(raters))


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize(("m", "r"), [(1, 1), (5, 4), (3, 1), (1, 6)])
def test_it_is_what_loops_over_all_pairs_give(m: int, r: int, unbiased: bool) -> None:
    samples, raters = maps(m, seed=0), maps(r, seed=1, chance=0.6)
    samples[0] = 0
    assert energy_distance(samples, raters, unbiased=unbiased) == pytest.approx(by_loops(samples, raters, unbiased))


@pytest.mark.parametrize("unbiased", [False, True])
def test_two_boxes_are_worked_by_hand(unbiased: bool) -> None:
    image = np.zeros((2, 4, 4), dtype=np.uint8)
    image[0, :2] = image[1, 1:3] = 1  # d of the two is 1 − 4/12
    assert energy_distance(image[:1], image[1:], unbiased=unbiased) == pytest.approx(4 / 3)
    assert energy_distance(image, image[1:], unbiased=False) == pytest.approx(2 / 3 - 1 / 3)
    assert energy_distance(image, image[1:], unbiased=True) == pytest.approx(2 / 3 - 2 / 3)


def test_the_same_maps_are_at_no_distance_and_all_others_above() -> None:
    raters = maps(5, seed=0)
    assert energy_distance(raters[::-1], raters, unbiased=False) == pytest.approx(0, abs=1e-12)
    assert all(energy_distance(maps(4, seed), raters, unbiased=False) > 0 for seed in range(1, 40))


@pytest.mark.parametrize("unbiased", [False, True])
def test_empty_maps_agree_with_empty_ones_and_with_no_other(unbiased: bool) -> None:
    empty = np.zeros((3, 6, 5), dtype=np.uint8)
    assert energy_distance(empty, empty[:2], unbiased=unbiased) == 0
    assert energy_distance(empty, np.ones_like(empty), unbiased=unbiased) == 2


def test_the_class_does_not_matter_and_volumes_are_taken() -> None:
    samples, raters = maps(3, seed=0), maps(4, seed=1)
    expected = energy_distance(samples, raters, unbiased=True)
    shaped = ((of > 0).astype(np.uint8).reshape(len(of), 2, 3, 5) for of in (samples, raters))
    assert energy_distance(*shaped, unbiased=True) == expected


@pytest.mark.slow
def test_only_the_unbiased_one_is_fair_between_numbers_of_samples() -> None:
    """Samples are random choices of two outlines, raters are both outlines: the expectation is D² = 0 at every M."""
    both = np.zeros((2, 4, 4), dtype=np.uint8)
    both[0, :2] = both[1, 1:3] = 1
    raters, rng = both[[0, 1]].repeat(200, axis=0), np.random.default_rng(0)
    means = {
        (m, unbiased): np.mean(
            [energy_distance(both[rng.integers(2, size=m)], raters, unbiased=unbiased) for _ in range(500)]
        )
        for m in (2, 5)
        for unbiased in (False, True)
    }
    assert means[2, True] == pytest.approx(0, abs=0.04)
    assert means[5, True] == pytest.approx(0, abs=0.03)
    assert means[2, False] == pytest.approx(1 / 3 / 2, abs=0.03)  # E d(S, S') / M
    assert means[5, False] == pytest.approx(1 / 3 / 5, abs=0.03)


@pytest.mark.parametrize(
    ("samples", "raters", "message"),
    [
        ((3, 6, 5), (2, 6, 6), r"samples of shape \(3, 6, 5\) and raters of shape \(2, 6, 6\); expected \(M, …\)"),
        ((0, 6, 5), (2, 6, 5), r"samples of shape \(0, 6, 5\)"),
        ((3, 6, 5), (0, 6, 5), r"raters of shape \(0, 6, 5\)"),
        ((3,), (3,), r"samples of shape \(3,\)"),
    ],
)
def test_other_maps_are_refused(samples: tuple[int, ...], raters: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        energy_distance(np.zeros(samples, np.uint8), np.zeros(raters, np.uint8), unbiased=True)
