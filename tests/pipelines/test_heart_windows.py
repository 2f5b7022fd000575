"""Windows around hearts: exact at one spacing, close at others, and back again."""

from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.data.phantoms.cardiac import CardiacPhantom
from meddiffusers.pipelines.meddiffusers_heart_shapes_v1 import measure_hearts
from meddiffusers.pipelines.meddiffusers_heart_windows_v1 import HeartWindow, heart_window


def beat(shape: tuple[int, int] = (128, 128), spacing: float = 1.25) -> np.ndarray:
    phantom = CardiacPhantom(7)
    return phantom.labels(phantom.phases(5), shape, spacing)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_at_one_spacing_only_the_place_changes() -> None:
    labels = beat((150, 200))
    window = heart_window(labels, (1.25, 1.25), 112, 1.25)
    cut = window.cut(labels)
    assert cut.shape == (5, 112, 112) and cut.dtype == np.uint8
    for label in (1, 2):
        assert (cut == label).sum() == (labels == label).sum()
        np.testing.assert_array_equal(window.paste((cut == label) - 0.5) > 0, labels == label)
    middle = np.argwhere(cut > 0)[:, 1:].mean(axis=0)
    np.testing.assert_allclose(middle, 55.5, atol=2.5)


@pytest.mark.parametrize(("shape", "spacing"), [((400, 320), 0.4), ((80, 80), 2.0), ((160, 128), (1.0, 1.25))])
def test_at_other_spacings_the_heart_keeps_its_size(
    shape: tuple[int, int], spacing: float | tuple[float, float]
) -> None:
    square = spacing if isinstance(spacing, float) else 1.25
    labels = beat(shape if isinstance(spacing, float) else (128, 128), square)
    if not isinstance(spacing, float):  # rows of 1 mm, drawn by repetition
        rows = (np.arange(160) / 1.25).astype(int)
        labels = labels[:, rows]
    edges = (spacing, spacing) if isinstance(spacing, float) else spacing
    window = heart_window(labels, edges, 128, 1.25)
    cut = window.cut(labels)
    np.testing.assert_allclose(measure_hearts(cut, 1.25)[:, :3], measure_hearts(labels, edges)[:, :3], rtol=0.04)
    heart = np.isin(labels, (1, 2))
    assert dice(window.paste((cut > 0) - 0.5) > 0, heart) > (0.96 if square == 2.0 else 0.98)


def test_beyond_the_window_is_outside() -> None:
    window = HeartWindow((40, 40), (1.0, 1.0), (20.0, 20.0), 16, 1.0)
    pasted = window.paste(np.ones((1, 16, 16)))[0]
    assert (pasted > 0).sum() == 256 and pasted[0, 0] == -1


def test_without_a_heart_there_is_no_window() -> None:
    labels = np.zeros((2, 20, 20), np.uint8)
    labels[0, 3, 3] = 3
    with pytest.raises(ValueError, match="expected a segmented left ventricle"):
        heart_window(labels, (1.0, 1.0), 16, 1.0)
