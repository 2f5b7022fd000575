"""The LV region of interest: exact at equal spacings, close at others, and pasted back."""

from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.data.phantoms.cardiac import CardiacPhantom
from meddiffusers.pipelines.meddiffusers_cardiac_attributes_v1 import measure_cardiac_attributes
from meddiffusers.pipelines.meddiffusers_cardiac_region_v1 import LVRegion, lv_region


def cardiac_cycle(shape: tuple[int, int] = (128, 128), spacing: float = 1.25) -> np.ndarray:
    phantom = CardiacPhantom(7)
    return phantom.labels(phantom.phases(5), shape, spacing)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_at_equal_spacings_only_the_position_changes() -> None:
    labels = cardiac_cycle((150, 200))
    region = lv_region(labels, (1.25, 1.25), 112, 1.25)
    crop = region.crop(labels)
    assert crop.shape == (5, 112, 112) and crop.dtype == np.uint8
    for label in (1, 2):
        assert (crop == label).sum() == (labels == label).sum()
        np.testing.assert_array_equal(region.paste((crop == label) - 0.5) > 0, labels == label)
    middle = np.argwhere(crop > 0)[:, 1:].mean(axis=0)
    np.testing.assert_allclose(middle, 55.5, atol=2.5)


@pytest.mark.parametrize(("shape", "spacing"), [((400, 320), 0.4), ((80, 80), 2.0), ((160, 128), (1.0, 1.25))])
def test_at_other_spacings_the_heart_keeps_its_size(
    shape: tuple[int, int], spacing: float | tuple[float, float]
) -> None:
    square = spacing if isinstance(spacing, float) else 1.25
    labels = cardiac_cycle(shape if isinstance(spacing, float) else (128, 128), square)
    if not isinstance(spacing, float):  # rows of 1 mm, by repetition
        rows = (np.arange(160) / 1.25).astype(int)
        labels = labels[:, rows]
    frame_spacing = (spacing, spacing) if isinstance(spacing, float) else spacing
    region = lv_region(labels, frame_spacing, 128, 1.25)
    crop = region.crop(labels)
    np.testing.assert_allclose(
        measure_cardiac_attributes(crop, 1.25)[:, :3],
        measure_cardiac_attributes(labels, frame_spacing)[:, :3],
        rtol=0.04,
    )
    heart = np.isin(labels, (1, 2))
    assert dice(region.paste((crop > 0) - 0.5) > 0, heart) > (0.96 if square == 2.0 else 0.98)


def test_fields_are_negative_outside_the_region() -> None:
    region = LVRegion((40, 40), (1.0, 1.0), (20.0, 20.0), 16, 1.0)
    pasted = region.paste(np.ones((1, 16, 16)))[0]
    assert (pasted > 0).sum() == 256 and pasted[0, 0] == -1


def test_label_maps_without_a_heart_are_refused() -> None:
    labels = np.zeros((2, 20, 20), np.uint8)
    labels[0, 3, 3] = 3
    with pytest.raises(ValueError, match="expected a segmented left ventricle"):
        lv_region(labels, (1.0, 1.0), 16, 1.0)
