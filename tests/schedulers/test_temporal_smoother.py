"""Smoothing against its defining equations, and misfits against what was put in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meddiffusers import TemporalSmoother
from meddiffusers.schedulers.temporal_smoother import PAPER_LIMITS, bends

FRAMES = 25


def beat(seed: int = 0, attributes: int = 6) -> np.ndarray:
    """(T, A) smooth signals of period T − 1 with sharp minima, as a ventricle's area has."""
    rng = np.random.default_rng(seed)
    phase = np.linspace(0, 1, FRAMES)[:, None] + rng.uniform(0, 0.1, attributes)
    return 1 + np.exp(np.cos(2 * np.pi * phase)) + 0.2 * np.sin(4 * np.pi * phase)


def fitted() -> TemporalSmoother:
    return TemporalSmoother.fitted([beat(seed) for seed in range(20)], list("abcdef"))


def test_smoothing_is_where_the_papers_iteration_ends() -> None:
    """s ← s⁰ pulled to the mean of its neighbours, until nothing moves."""
    z, w = np.random.default_rng(0).standard_normal((FRAMES, 3)), np.array([0.5, 7.0, 40.0])
    s = z.copy()
    for _ in range(20_000):
        before, after = np.roll(s, 1, axis=0), np.roll(s, -1, axis=0)
        before[0], after[-1] = s[0], s[-1]
        gradient = (s - z) + w / 2 * ((s - before) + (s - after))
        s -= gradient / (1 + 2 * w)
    np.testing.assert_allclose(TemporalSmoother().smooth(z, w), s, atol=1e-9)


def test_confidence_weighs_the_frames() -> None:
    z, w = np.random.default_rng(1).standard_normal((FRAMES, 1)), 5.0
    c = np.ones(FRAMES)
    c[7] = 0
    differences = np.diff(np.eye(FRAMES), axis=0)
    c_least = np.clip(c, 1e-3, None)
    expected = np.linalg.solve(np.diag(c_least) + w / 2 * differences.T @ differences, c_least * z[:, 0])
    np.testing.assert_allclose(TemporalSmoother().smooth(z, w, c)[:, 0], expected, atol=1e-9)
    other = z.copy()
    other[7] += 100
    moved = TemporalSmoother().smooth(other, w, c) - TemporalSmoother().smooth(z, w, c)
    assert np.abs(moved).max() < 0.06


def test_the_weight_is_the_smallest_that_meets_the_limit() -> None:
    smoother = TemporalSmoother()
    z, limits = np.random.default_rng(2).standard_normal((FRAMES, 6)).cumsum(axis=0), np.linspace(0.05, 0.6, 6)
    weights = smoother.smallest_weights(z, limits)
    assert (weights > 0).all() and (weights < 128).all()
    largest = np.abs(bends(smoother.smooth(z, weights))).max(axis=0)
    np.testing.assert_allclose(largest, limits, rtol=1e-6)
    assert (np.abs(bends(smoother.smooth(z, weights * 0.999))).max(axis=0) > limits).all()


def test_what_meets_its_limit_is_left_alone_and_what_cannot_gets_the_largest_weight() -> None:
    smoother = TemporalSmoother(max_weight=3.0)
    z = np.stack([np.linspace(0, 1, FRAMES), (-1.0) ** np.arange(FRAMES)], axis=1)
    np.testing.assert_array_equal(smoother.smallest_weights(z, [0.01, 1e-6]), [0.0, 3.0])


def test_bends() -> None:
    parabola = np.arange(6.0)[:, None] ** 2
    np.testing.assert_allclose(bends(parabola)[:, 0], [0, -1, -1, -1, -1, 0])
    circle = np.cos(2 * np.pi * np.arange(9) / 8)[:, None]
    expected = circle * (1 - np.cos(2 * np.pi / 8))
    np.testing.assert_allclose(bends(circle, cyclic=True), expected, atol=1e-12)


@pytest.mark.parametrize("missing", [[4], [4, 5, 6], [0], [24], [0, 12]])
def test_missing_frames_come_back(missing: list[int]) -> None:
    signals, gone = beat(), np.isin(np.arange(FRAMES), missing)
    spoilt = np.where(gone[:, None], np.nan, signals)
    filled = TemporalSmoother.filled(spoilt, gone, cyclic=False)
    np.testing.assert_array_equal(filled[~gone], signals[~gone])
    assert np.abs(filled - signals).max() < 0.15 * np.ptp(signals)


def test_a_line_is_filled_exactly_and_a_cycle_across_its_seam() -> None:
    line = np.linspace(3, -1, FRAMES)[:, None]
    gone = np.isin(np.arange(FRAMES), [0, 3, 4, 24])
    np.testing.assert_allclose(TemporalSmoother.filled(line, gone), line, atol=1e-9)
    signals, gone = beat(), np.isin(np.arange(FRAMES), [0, 24])
    errors = [np.abs(TemporalSmoother.filled(signals, gone, cyclic=c) - signals).max() for c in (False, True)]
    assert errors[1] < errors[0] / 3


@pytest.mark.parametrize("seed", range(12))
def test_misfits_are_those_that_were_put_in(seed: int) -> None:
    rng, signals = np.random.default_rng(seed), beat(seed=100 + seed)
    wrong = rng.permutation(FRAMES)[: rng.integers(1, 5)]
    signals[wrong] += rng.choice([-1, 1], (len(wrong), 6)) * rng.uniform(0.5, 1.0, (len(wrong), 6))
    limits = {name: 1.3 * limit for name, limit in fitted().config["limits"].items()}  # every beat's peak is at its own
    smoother = TemporalSmoother(list(limits), limits, fitted().config["ranges"])
    found = smoother.misfits(signals, np.zeros(FRAMES, bool), cyclic=True)
    # The two ends show one heart: if one of them is wrong, either may be left out.
    assert {*np.flatnonzero(found)} - {0, 24} == {*wrong} - {0, 24}


def test_what_exceeds_a_limit_by_a_hair_is_no_reason_to_leave_frames_out() -> None:
    smoother, signals = fitted(), beat(100)
    assert 1 < smoother.excess(signals, cyclic=True).max() < 1.01
    assert not smoother.misfits(signals, np.zeros(FRAMES, bool), cyclic=True).any()


def test_steady_signals_have_no_misfits_and_suspects_stay() -> None:
    smoother, nothing = fitted(), np.zeros(FRAMES, bool)
    assert not smoother.misfits(beat(seed=3), nothing).any()
    suspected = np.isin(np.arange(FRAMES), [2, 9])
    np.testing.assert_array_equal(smoother.misfits(beat(seed=3), suspected), suspected)
    unknown = beat(seed=3)
    unknown[5] = np.nan
    assert {*np.flatnonzero(smoother.misfits(unknown, nothing))} == {5}


def test_limits_are_the_largest_bends_of_the_references() -> None:
    references = [beat(seed=seed) for seed in range(20)]
    smoother = fitted()
    assert smoother.attributes == tuple("abcdef")
    largest = max(smoother.excess(reference).max() for reference in references)
    assert largest == pytest.approx(1) and all(smoother.excess(reference).max() <= 1 + 1e-9 for reference in references)


def test_a_cycle_of_fewer_frames_may_bend_more() -> None:
    smoother, signals = fitted(), beat(3)
    few = signals[::2]
    assert smoother.excess(few).max() > 2 > 1.2 > smoother.excess(few, cyclic=True).max()
    assert smoother.excess(signals, cyclic=True).max() == pytest.approx(smoother.excess(signals).max(), rel=0.01)


def test_the_paper_limits_are_there_but_need_ranges() -> None:
    smoother = TemporalSmoother()
    assert smoother.config["limits"] == PAPER_LIMITS and smoother.config["limits"]["lv_area"] == 0.016
    with pytest.raises(ValueError, match="Fit it"):
        smoother.excess(np.zeros((5, 7)))


def test_save_and_load(tmp_path: Path) -> None:
    smoother = TemporalSmoother.fitted([beat(0, 2)], ["b", "a"], latents=[beat(5)], agreement=0.9)
    smoother.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "smoother_config.json",
        "meddiffusers_temporal_smoother_v1.py",
    }
    loaded = TemporalSmoother.from_pretrained(tmp_path)
    assert loaded.attributes == ("b", "a") and loaded.config["agreement"] == 0.9
    np.testing.assert_allclose(loaded.config["latent_limits"], np.abs(bends(beat(5))).max(axis=0))
    signals = beat(4, 2)
    np.testing.assert_array_equal(loaded.excess(signals), smoother.excess(signals))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TemporalSmoother(["a"], {"a": 0.0}), "expected above 0"),
        (lambda: TemporalSmoother(["a"], {"a": 1.0}, {"b": [0, 1]}), "low below high"),
        (lambda: TemporalSmoother(["a"], {"a": 1.0}, {"a": [1, 1]}), "low below high"),
        (lambda: TemporalSmoother(["a"], {"b": 1.0}), "expected one of each of a"),
        (lambda: TemporalSmoother.fitted([np.zeros((2, 1))], ["a"]), "three frames or more"),
        (lambda: TemporalSmoother.fitted([np.full((5, 1), np.nan)], ["a"]), "finite attributes"),
        (lambda: TemporalSmoother.fitted([np.zeros((5, 1))], ["a"]), "a never changes"),
        (lambda: TemporalSmoother.filled(np.zeros((3, 1)), np.array([True, True, False])), "at least two"),
    ],
)
def test_what_cannot_work_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
