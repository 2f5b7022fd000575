"""Smoothing against its defining equations, and limits against the references that they are fitted to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meddiffusers import TemporalSmoother
from meddiffusers.schedulers.temporal_smoother import PAPER_LIMITS, second_differences

FRAMES = 25


def cardiac_cycle(seed: int = 0, attributes: int = 6) -> np.ndarray:
    """Smooth signals (T, A) of period T − 1 with sharp minima, like the area of a ventricle."""
    rng = np.random.default_rng(seed)
    phase = np.linspace(0, 1, FRAMES)[:, None] + rng.uniform(0, 0.1, attributes)
    return 1 + np.exp(np.cos(2 * np.pi * phase)) + 0.2 * np.sin(4 * np.pi * phase)


def fitted() -> TemporalSmoother:
    return TemporalSmoother.from_references([cardiac_cycle(seed) for seed in range(20)], list("abcdef"))


@pytest.mark.slow
def test_smoothing_is_the_fixed_point_of_the_papers_iteration() -> None:
    """Gradient descent until nothing changes."""
    z, w = np.random.default_rng(0).standard_normal((FRAMES, 3)), np.array([0.5, 7.0, 40.0])
    s = z.copy()
    for _ in range(20_000):
        before, after = np.roll(s, 1, axis=0), np.roll(s, -1, axis=0)
        before[0], after[-1] = s[0], s[-1]
        gradient = (s - z) + w / 2 * ((s - before) + (s - after))
        s -= gradient / (1 + 2 * w)
    np.testing.assert_allclose(TemporalSmoother().smooth(z, w), s, atol=1e-9)


def test_confidence_weights_the_frames() -> None:
    z, w = np.random.default_rng(1).standard_normal((FRAMES, 1)), 5.0
    c = np.ones(FRAMES)
    c[7] = 0
    differences = np.diff(np.eye(FRAMES), axis=0)
    c_clipped = np.clip(c, 1e-3, None)
    expected = np.linalg.solve(np.diag(c_clipped) + w / 2 * differences.T @ differences, c_clipped * z[:, 0])
    np.testing.assert_allclose(TemporalSmoother().smooth(z, w, c)[:, 0], expected, atol=1e-9)
    other = z.copy()
    other[7] += 100
    change = TemporalSmoother().smooth(other, w, c) - TemporalSmoother().smooth(z, w, c)
    assert np.abs(change).max() < 0.06


def test_the_weight_is_the_smallest_that_meets_the_limit() -> None:
    smoother = TemporalSmoother()
    z, limits = np.random.default_rng(2).standard_normal((FRAMES, 6)).cumsum(axis=0), np.linspace(0.05, 0.6, 6)
    weights = smoother.smallest_weights(z, limits)
    assert (weights > 0).all() and (weights < 128).all()
    largest = np.abs(second_differences(smoother.smooth(z, weights))).max(axis=0)
    np.testing.assert_allclose(largest, limits, rtol=1e-6)
    assert (np.abs(second_differences(smoother.smooth(z, weights * 0.999))).max(axis=0) > limits).all()


def test_weights_are_zero_within_the_limit_and_largest_where_it_cannot_be_met() -> None:
    smoother = TemporalSmoother(max_weight=3.0)
    z = np.stack([np.linspace(0, 1, FRAMES), (-1.0) ** np.arange(FRAMES)], axis=1)
    np.testing.assert_array_equal(smoother.smallest_weights(z, [0.01, 1e-6]), [0.0, 3.0])


def test_second_differences() -> None:
    parabola = np.arange(6.0)[:, None] ** 2
    np.testing.assert_allclose(second_differences(parabola)[:, 0], [0, -1, -1, -1, -1, 0])
    circle = np.cos(2 * np.pi * np.arange(9) / 8)[:, None]
    expected = circle * (1 - np.cos(2 * np.pi / 8))
    np.testing.assert_allclose(second_differences(circle, cyclic=True), expected, atol=1e-12)


@pytest.mark.parametrize("missing", [[4], [4, 5, 6], [0], [24], [0, 12]])
def test_missing_frames_are_interpolated(missing: list[int]) -> None:
    signals, mask = cardiac_cycle(), np.isin(np.arange(FRAMES), missing)
    signals_with_gaps = np.where(mask[:, None], np.nan, signals)
    interpolated = TemporalSmoother.interpolate_missing(signals_with_gaps, mask, cyclic=False)
    np.testing.assert_array_equal(interpolated[~mask], signals[~mask])
    assert np.abs(interpolated - signals).max() < 0.15 * np.ptp(signals)


def test_a_line_is_interpolated_exactly_and_a_cycle_across_its_seam() -> None:
    line = np.linspace(3, -1, FRAMES)[:, None]
    mask = np.isin(np.arange(FRAMES), [0, 3, 4, 24])
    np.testing.assert_allclose(TemporalSmoother.interpolate_missing(line, mask), line, atol=1e-9)
    signals, mask = cardiac_cycle(), np.isin(np.arange(FRAMES), [0, 24])
    errors = [
        np.abs(TemporalSmoother.interpolate_missing(signals, mask, cyclic=c) - signals).max() for c in (False, True)
    ]
    assert errors[1] < errors[0] / 3


def test_limits_are_the_largest_second_differences_of_the_references() -> None:
    references = [cardiac_cycle(seed=seed) for seed in range(20)]
    smoother = fitted()
    assert smoother.attributes == tuple("abcdef")
    largest = max(smoother.consistency_ratio(reference).max() for reference in references)
    assert largest == pytest.approx(1) and all(
        smoother.consistency_ratio(reference).max() <= 1 + 1e-9 for reference in references
    )


def test_limits_grow_with_the_time_step() -> None:
    """Fewer frames of a cycle, whether or not it is called one; half a cycle has half the step."""
    smoother, signals = fitted(), cardiac_cycle(3)
    few = signals[::2]
    ratios = [smoother.consistency_ratio(few, cyclic).max() for cyclic in (False, True)]
    assert max(ratios) < 1.2 and smoother.consistency_ratio(signals, cyclic=True).max() == pytest.approx(1, abs=0.2)
    half = signals[:13]
    assert np.abs(half[-1] - half[0]).min() > 0.3
    np.testing.assert_allclose(
        smoother.consistency_ratio(half)[1:-1], smoother.consistency_ratio(signals)[1:12], rtol=1e-9
    )


def test_limits_grow_with_the_pixels() -> None:
    rng, edges = np.random.default_rng(0), np.repeat([0.5, 2.0], 10)
    references = [cardiac_cycle(seed) for seed in range(20)]
    noisy = [each + 0.2 * edge * rng.uniform(-1, 1, each.shape) for each, edge in zip(references, edges, strict=True)]
    smoother = TemporalSmoother.from_references(noisy, list("abcdef"), pixels=edges)
    ratios = [smoother.consistency_ratio(each, pixel=edge).max() for each, edge in zip(noisy, edges, strict=True)]
    assert 0.9 < max(ratios) <= 1 + 1e-9
    assert smoother.consistency_ratio(noisy[-1], pixel=0.5).max() > 1.2
    equal = TemporalSmoother.from_references(references, list("abcdef"), pixels=np.ones(20))
    assert equal.config["limits"] == fitted().config["limits"] and set(equal.config["grid_limits"].values()) == {0.0}


def test_the_limits_of_the_paper_need_ranges() -> None:
    smoother = TemporalSmoother()
    assert smoother.config["limits"] == PAPER_LIMITS and smoother.config["limits"]["lv_area"] == 0.016
    with pytest.raises(ValueError, match="Fit it"):
        smoother.consistency_ratio(np.zeros((5, 7)))


def test_save_and_load(tmp_path: Path) -> None:
    smoother = TemporalSmoother.from_references(
        [cardiac_cycle(0, 2)], ["b", "a"], latents=[cardiac_cycle(5)], min_reconstruction_dice=0.9
    )
    smoother.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "smoother_config.json",
        "meddiffusers_temporal_smoother_v1.py",
    }
    loaded = TemporalSmoother.from_pretrained(tmp_path)
    assert loaded.attributes == ("b", "a") and loaded.config["min_reconstruction_dice"] == 0.9
    np.testing.assert_allclose(loaded.config["latent_limits"], np.abs(second_differences(cardiac_cycle(5))).max(axis=0))
    signals = cardiac_cycle(4, 2)
    np.testing.assert_array_equal(loaded.consistency_ratio(signals), smoother.consistency_ratio(signals))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TemporalSmoother(["a"], {"a": 0.0}), "expected above 0"),
        (lambda: TemporalSmoother(["a"], {"a": 1.0}, {"b": [0, 1]}), "low below high"),
        (lambda: TemporalSmoother(["a"], {"a": 1.0}, {"a": [1, 1]}), "low below high"),
        (lambda: TemporalSmoother(["a"], {"b": 1.0}), "expected one of each of a"),
        (lambda: TemporalSmoother.from_references([np.zeros((2, 1))], ["a"]), "three frames or more"),
        (lambda: TemporalSmoother.from_references([np.full((5, 1), np.nan)], ["a"]), "finite attributes"),
        (lambda: TemporalSmoother.from_references([np.zeros((5, 1))], ["a"]), "a never changes"),
        (lambda: TemporalSmoother.interpolate_missing(np.zeros((3, 1)), np.array([True, True, False])), "at least two"),
    ],
)
def test_invalid_arguments_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
