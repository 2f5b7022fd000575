"""The seven attributes against the true outlines of phantom hearts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from meddiffusers.data.phantoms.cardiac.phantom import CardiacPhantom
from meddiffusers.pipelines.meddiffusers_heart_shapes_v1 import (
    CARDIAC_ATTRIBUTES,
    area_length_volumes,
    ejection_fraction,
    measure_hearts,
    upside_down,
)

NAMES = [*CARDIAC_ATTRIBUTES]
TOLERANCES = {"lv_length": 0.5, "base_width": 0.6, "orientation": 0.4, "epi_x": 0.15, "epi_y": 0.15}  # mm, degrees


def hearts(spacing: float = 1.25, shape: tuple[int, int] = (128, 128)) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Label maps of ten patients over a beat, and the truth."""
    labels, truth = [], []
    for seed in range(10):
        phantom = CardiacPhantom(seed, view=("4CH", "2CH")[seed % 2])
        phases = phantom.phases(9)
        labels.append(phantom.labels(phases, shape, spacing))
        truth.append(phantom.truth(phases))
    return np.concatenate(labels), {name: np.concatenate([each[name] for each in truth]) for name in NAMES}


@pytest.mark.parametrize(("spacing", "shape"), [(1.25, (128, 128)), (0.8, (200, 200)), (1.6, (100, 100))])
def test_they_are_those_of_the_outlines(spacing: float, shape: tuple[int, int]) -> None:
    labels, truth = hearts(spacing, shape)
    found = dict(zip(NAMES, measure_hearts(labels, spacing).T, strict=True))
    for name, limit in TOLERANCES.items():
        assert np.abs(found[name] - truth[name]).mean() < limit, name
    for name in ("lv_area", "myo_area"):
        assert (np.abs(found[name] - truth[name]) / truth[name]).mean() < 0.01


def test_steps_of_pixels_do_not_show_in_a_sequence() -> None:
    """A heart that moves by a tenth of a pixel from frame to frame keeps its length and its base."""
    phantom = CardiacPhantom(3)
    fine = phantom.labels(np.zeros(1), (1280, 1280), 0.125)[0]
    moved = np.stack([np.roll(fine, 1 * step, axis=0)[5::10, 5::10] for step in range(20)])
    values = measure_hearts(moved, 1.25)
    jumps = np.abs(values[1:-1] - (values[:-2] + values[2:]) / 2)
    for name, limit in {"lv_length": 0.4, "base_width": 0.5, "orientation": 0.3, "epi_y": 0.1}.items():
        assert jumps[:, NAMES.index(name)].max() < limit, name
    slope = np.polyfit(np.arange(20), values[:, NAMES.index("epi_y")], 1)[0]
    assert slope == pytest.approx(0.125, abs=0.005)


def test_moved_and_mirrored_hearts() -> None:
    labels, _ = hearts()
    one = measure_hearts(labels, 1.25)
    moved = measure_hearts(ndimage.shift(labels, (0, 4, -3), order=0), 1.25)
    offset = np.zeros(7)
    offset[NAMES.index("epi_y")], offset[NAMES.index("epi_x")] = 5, -3.75
    np.testing.assert_allclose(moved, one + offset, atol=1e-6)
    mirrored = measure_hearts(labels[:, :, ::-1], 1.25)
    sign = np.array([-1 if name in ("orientation", "epi_x") else 1 for name in NAMES])
    np.testing.assert_allclose(mirrored, one * sign, atol=0.6)


def test_pixels_need_not_be_square() -> None:
    labels, _ = hearts()
    tall = measure_hearts(np.repeat(labels, 2, axis=1), (0.625, 1.25))
    square = measure_hearts(labels, 1.25)
    for name, limit in {"lv_area": 1e-6, "myo_area": 1e-6, "epi_y": 1e-6, "lv_length": 0.8, "base_width": 0.8}.items():
        place = NAMES.index(name)
        assert np.abs(tall[:, place] - square[:, place]).max() < limit * 2, name


def test_what_is_too_small_is_not_measured() -> None:
    labels, _ = hearts()
    frames = labels[:3].copy()
    frames[0] = 0
    frames[1][frames[1] == 2] = 0
    found = measure_hearts(frames, 1.25)
    assert np.isnan(found[:2]).all() and np.isfinite(found[2]).all()


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(N, H, W\)"):
        measure_hearts(np.zeros((8, 8)), 1.0)
    with pytest.raises(ValueError, match="mm above 0"):
        measure_hearts(np.zeros((1, 8, 8)), 0.0)


def test_volume_and_ejection_fraction_are_those_that_were_asked_for() -> None:
    phantom = CardiacPhantom(5, ejection_fraction=0.58)
    phases = phantom.phases(41)
    volumes = area_length_volumes(measure_hearts(phantom.labels(phases), 1.25))
    np.testing.assert_allclose(volumes, phantom.truth(phases)["volume"], rtol=0.02)
    assert ejection_fraction(volumes) == pytest.approx(0.58, abs=0.015)
    volumes[3] = np.nan
    assert ejection_fraction(volumes) == pytest.approx(0.58, abs=0.015)
    assert np.isnan(ejection_fraction(np.full(3, np.nan)))


def test_which_way_up() -> None:
    labels, _ = hearts()
    assert not upside_down(labels) and upside_down(labels[:, ::-1])
    labels[:2] = 0  # frames without a heart say nothing
    assert not upside_down(labels) and upside_down(labels[:, ::-1]) and not upside_down(labels[:1])
