"""The seven attributes against the outlines of the cardiac phantom."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from meddiffusers.data.phantoms.cardiac.phantom import CardiacPhantom
from meddiffusers.pipelines.meddiffusers_cardiac_attributes_v1 import (
    CARDIAC_ATTRIBUTES,
    area_length_volumes,
    ejection_fraction,
    is_upside_down,
    measure_cardiac_attributes,
)

NAMES = [*CARDIAC_ATTRIBUTES]
TOLERANCES = {"lv_length": 0.5, "base_width": 0.6, "orientation": 0.4, "epi_x": 0.15, "epi_y": 0.15}  # mm, degrees


def label_maps(spacing: float = 1.25, shape: tuple[int, int] = (128, 128)) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Label maps of ten patients over a cardiac cycle, and their ground truth."""
    labels, truth = [], []
    for seed in range(10):
        phantom = CardiacPhantom(seed, view=("4CH", "2CH")[seed % 2])
        phases = phantom.phases(9)
        labels.append(phantom.labels(phases, shape, spacing))
        truth.append(phantom.ground_truth(phases))
    return np.concatenate(labels), {name: np.concatenate([each[name] for each in truth]) for name in NAMES}


@pytest.mark.parametrize(("spacing", "shape"), [(1.25, (128, 128)), (0.8, (200, 200)), (1.6, (100, 100))])
@pytest.mark.slow
def test_attributes_agree_with_outlines(spacing: float, shape: tuple[int, int]) -> None:
    labels, truth = label_maps(spacing, shape)
    measured = dict(zip(NAMES, measure_cardiac_attributes(labels, spacing).T, strict=True))
    for name, limit in TOLERANCES.items():
        assert np.abs(measured[name] - truth[name]).mean() < limit, name
    for name in ("lv_area", "myo_area"):
        assert (np.abs(measured[name] - truth[name]) / truth[name]).mean() < 0.01


@pytest.mark.slow
def test_the_pixel_grid_does_not_show_in_a_sequence() -> None:
    """Length and base stay the same in a heart that moves by a tenth of a pixel per frame."""
    phantom = CardiacPhantom(3)
    fine = phantom.labels(np.zeros(1), (1280, 1280), 0.125)[0]
    shifted = np.stack([np.roll(fine, 1 * step, axis=0)[5::10, 5::10] for step in range(20)])
    values = measure_cardiac_attributes(shifted, 1.25)
    second_differences = np.abs(values[1:-1] - (values[:-2] + values[2:]) / 2)
    for name, limit in {"lv_length": 0.4, "base_width": 0.5, "orientation": 0.3, "epi_y": 0.1}.items():
        assert second_differences[:, NAMES.index(name)].max() < limit, name
    slope = np.polyfit(np.arange(20), values[:, NAMES.index("epi_y")], 1)[0]
    assert slope == pytest.approx(0.125, abs=0.005)


@pytest.mark.slow
def test_shifted_and_mirrored_hearts() -> None:
    labels, _ = label_maps()
    original = measure_cardiac_attributes(labels, 1.25)
    shifted = measure_cardiac_attributes(ndimage.shift(labels, (0, 4, -3), order=0), 1.25)
    offset = np.zeros(7)
    offset[NAMES.index("epi_y")], offset[NAMES.index("epi_x")] = 5, -3.75
    np.testing.assert_allclose(shifted, original + offset, atol=1e-6)
    mirrored = measure_cardiac_attributes(labels[:, :, ::-1], 1.25)
    sign = np.array([-1 if name in ("orientation", "epi_x") else 1 for name in NAMES])
    np.testing.assert_allclose(mirrored, original * sign, atol=0.6)


@pytest.mark.slow
def test_pixels_need_not_be_square() -> None:
    labels, _ = label_maps()
    tall = measure_cardiac_attributes(np.repeat(labels, 2, axis=1), (0.625, 1.25))
    square = measure_cardiac_attributes(labels, 1.25)
    for name, limit in {"lv_area": 1e-6, "myo_area": 1e-6, "epi_y": 1e-6, "lv_length": 0.8, "base_width": 0.8}.items():
        column = NAMES.index(name)
        assert np.abs(tall[:, column] - square[:, column]).max() < limit * 2, name


@pytest.mark.slow
def test_small_structures_are_not_measured() -> None:
    labels, _ = label_maps()
    frames = labels[:3].copy()
    frames[0] = 0
    frames[1][frames[1] == 2] = 0
    measured = measure_cardiac_attributes(frames, 1.25)
    assert np.isnan(measured[:2]).all() and np.isfinite(measured[2]).all()


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(T, H, W\)"):
        measure_cardiac_attributes(np.zeros((8, 8)), 1.0)
    with pytest.raises(ValueError, match="mm above 0"):
        measure_cardiac_attributes(np.zeros((1, 8, 8)), 0.0)


def test_volume_and_ejection_fraction_agree_with_the_phantom() -> None:
    phantom = CardiacPhantom(5, ejection_fraction=0.58)
    phases = phantom.phases(41)
    volumes = area_length_volumes(measure_cardiac_attributes(phantom.labels(phases), 1.25))
    np.testing.assert_allclose(volumes, phantom.ground_truth(phases)["volume"], rtol=0.02)
    assert ejection_fraction(volumes) == pytest.approx(0.58, abs=0.015)
    volumes[3] = np.nan
    assert ejection_fraction(volumes) == pytest.approx(0.58, abs=0.015)
    assert np.isnan(ejection_fraction(np.full(3, np.nan)))


@pytest.mark.slow
def test_upside_down_label_maps_are_recognized() -> None:
    labels, _ = label_maps()
    assert not is_upside_down(labels) and is_upside_down(labels[:, ::-1])
    labels[:2] = 0  # frames without a heart do not count
    assert not is_upside_down(labels) and is_upside_down(labels[:, ::-1]) and not is_upside_down(labels[:1])
