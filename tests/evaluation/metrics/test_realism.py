from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from meddiffusers.evaluation.metrics.realism import appearance, gradients, normalise, power_spectrum, realism_figure


def ramp(steps: tuple[float, float], size: int = 64, start: float = 100) -> np.ndarray:
    """(1, size, size) that rises by so much a pixel down and across."""
    rows, columns = np.indices((size, size))
    return (start + steps[0] * rows + steps[1] * columns)[None]


def three_levels(middle: float) -> np.ndarray:
    """5 % of 10, 90 % of `middle`, 5 % of 110, in columns."""
    return np.repeat([10.0] * 5 + [middle] * 90 + [110.0] * 5, 20).reshape(1, 100, 20)


def noise(deviation: float = 1.0, shape: tuple[int, int, int] = (40, 64, 64), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, deviation, shape)


def test_each_slice_is_mapped_by_itself() -> None:
    slices = np.concatenate([ramp((1, 2)), 9 * ramp((1, 2))])
    first, second = normalise(slices)
    np.testing.assert_allclose(first, second, atol=1e-12)


def test_two_percentiles_of_the_foreground_become_0_and_1_and_the_rest_nan() -> None:
    slices = np.pad(ramp((0, 1), 101, start=0)[:, :, 1:] + 7, ((0, 0), (5, 5), (5, 5)))
    images = normalise(slices)
    assert np.isnan(images).sum() == slices.size - 101 * 100
    assert np.nanpercentile(images, (1, 99)) == pytest.approx([0, 1])
    assert np.nanmin(images) < 0
    assert np.nanmax(images) > 1


@pytest.mark.parametrize(("first", "second"), [(50, 70), (90, 30)])
def test_shifted_samples_are_as_far_as_they_were_shifted(first: float, second: float) -> None:
    distances = appearance(three_levels(first), 1).distances(appearance(three_levels(second), 1))
    assert distances.intensity == pytest.approx(0.9 * abs(first - second) / 100)


@pytest.mark.parametrize(("steps", "spacing"), [((3, 4), 1.0), ((0, 2), 0.5), ((-6, 8), 2.0)])
def test_a_ramp_has_its_slope_everywhere(steps: tuple[float, float], spacing: float) -> None:
    found = gradients(ramp(steps), spacing)
    assert found.size == 62**2
    assert found == pytest.approx(np.hypot(*steps) / spacing)


def test_the_edge_of_the_foreground_is_no_gradient() -> None:
    slices = np.zeros((1, 64, 64))
    slices[:, 20:40, 20:40] = ramp((0, 1), 20)
    window = np.subtract(*np.percentile(slices[slices > 0], (99, 1)))
    found = appearance(slices, 2).gradients
    assert found.size == 18**2
    assert found == pytest.approx(1 / window / 2)


def test_gradients_differ_by_what_the_pixels_differ_in_size() -> None:
    slices = ramp((0, 1))
    slope = 1 / np.subtract(*np.percentile(slices, (99, 1)))
    distances = appearance(slices, 1).distances(appearance(slices, 2))
    assert distances.gradient == pytest.approx(slope / 2)
    assert distances.intensity == 0


@pytest.mark.parametrize(("deviation", "spacing"), [(1.0, 1.0), (3.0, 0.5)])
def test_white_noise_has_a_flat_spectrum(deviation: float, spacing: float) -> None:
    frequencies, power = power_spectrum(noise(deviation), spacing)
    assert frequencies[-1] == pytest.approx(0.5 / spacing)
    assert power == pytest.approx(deviation**2 * spacing**2, rel=0.25)
    assert power.mean() == pytest.approx(deviation**2 * spacing**2, rel=0.02)


def test_the_field_of_view_does_not_change_the_power() -> None:
    padded = np.pad(noise(), ((0, 0), (32, 32), (32, 32)), constant_values=np.nan)
    assert power_spectrum(padded, 1)[1].mean() == pytest.approx(1, rel=0.02)


def test_a_wave_lies_at_its_frequency() -> None:
    rows = np.indices((64, 64))[0]
    frequencies, power = power_spectrum(np.sin(2 * np.pi * rows / 8)[None], spacing=2)
    assert frequencies[power.argmax()] == pytest.approx(1 / 16)


def test_tenfold_power_is_ten_decibels() -> None:
    quiet = appearance(noise() + 100, 1)
    loud = type(quiet)(quiet.intensities, quiet.gradients, quiet.frequencies, 10 * quiet.power)
    assert quiet.distances(loud).spectrum == pytest.approx(10)


def test_a_source_is_no_distance_from_itself_at_another_gain() -> None:
    slices = 50 + noise() + ramp((1, 2))
    assert astuple(appearance(slices, 1).distances(appearance(slices, 1))) == (0, 0, 0)
    assert astuple(appearance(slices, 1).distances(appearance(7 * slices, 1))) == pytest.approx((0, 0, 0), abs=1e-9)


@pytest.mark.slow
def test_the_figure_shows_every_source() -> None:
    sources = {name: (100 + noise(size, (5, 24, 24)), 1.0) for name, size in (("one", 1.0), ("two", 4.0))}
    both, one = realism_figure(sources), realism_figure({"one": sources["one"]})
    assert both.mode == "RGB"
    right = slice(both.width // 2, None)
    top = slice(both.height // 10, both.height // 2)
    assert (np.asarray(both)[top, right].min(axis=2) < 128).mean() > 0.2
    assert not np.array_equal(np.asarray(both)[-300:, right], np.asarray(one)[-300:, right])


@pytest.mark.parametrize(
    ("slices", "spacing", "message"),
    [
        (np.ones((8, 8)), 1, r"shape \(8, 8\); expected \(B, H, W\)"),
        (np.ones((0, 8, 8)), 1, r"shape \(0, 8, 8\)"),
        (np.zeros((2, 8, 8)), 1, "slice 0: all 64 voxels are 0"),
        (np.full((2, 8, 8), np.nan), 1, "NaN or infinite"),
        (np.ones((2, 8, 8)), 1, "are both 1"),
        (noise(), 0, "spacing=0; expected the edge length"),
    ],
)
def test_other_slices_are_refused(slices: np.ndarray, spacing: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        appearance(slices, spacing)
