"""Volumes and ED and ES frames of phantoms, and of an ellipsoid, for which both formulas are exact."""

from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.data.phantoms.cardiac import CardiacPhantom
from meddiffusers.datasets.cardiac_volumes import biplane_volumes, disc_widths, ed_es_frames
from meddiffusers.pipelines.meddiffusers_cardiac_attributes_v1 import area_length_volumes, measure_cardiac_attributes


def half_ellipse(length: float, width: float, spacing: float = 0.5, wall: float = 10.0) -> np.ndarray:
    """Label map (1, H, W) of a half ellipse with its base below, and a myocardium around it."""
    y, x = (np.arange(300)[:, None] + 0.5) * spacing - 120, (np.arange(240) + 0.5) * spacing - 60
    inner = (y / length) ** 2 + (x / (width / 2)) ** 2 <= 1
    outer = (y / (length + wall)) ** 2 + (x / (width / 2 + wall)) ** 2 <= 1
    return np.where(y > 0, 0, np.where(inner, 1, np.where(outer, 2, 0)))[None].astype(np.uint8)


@pytest.mark.parametrize(("length", "a", "b"), [(80.0, 45.0, 45.0), (90.0, 50.0, 40.0)])
def test_half_an_ellipsoid(length: float, a: float, b: float) -> None:
    exact = 2 / 3 * np.pi * length * a / 2 * b / 2 / 1000
    views = half_ellipse(length, a), half_ellipse(length, b)
    assert biplane_volumes(views[0], 0.5, views[1], 0.5)[0] == pytest.approx(exact, rel=0.02)
    if a == b:
        assert area_length_volumes(measure_cardiac_attributes(views[0], 0.5))[0] == pytest.approx(exact, rel=0.02)


def test_discs_sum_to_the_area() -> None:
    labels = half_ellipse(85, 46)
    widths, lengths = disc_widths(labels, 0.5)
    assert widths.shape == (1, 20) and lengths[0] == pytest.approx(85, abs=0.5)
    assert (widths[0] * 85 / 20).sum() == pytest.approx((labels == 1).sum() * 0.25, rel=0.02)
    assert (np.diff(widths[0]) < 1.2).all()  # from base to apex


def test_a_phantom_in_two_views() -> None:
    views = [CardiacPhantom(21, view) for view in ("4CH", "2CH")]
    phases = views[0].phases(21)
    labels = [view.labels(phases) for view in views]
    volumes = biplane_volumes(labels[0], 1.25, labels[1], 1.25)
    truth = np.sqrt(views[0].ground_truth(phases)["volume"] * views[1].ground_truth(phases)["volume"])
    np.testing.assert_allclose(volumes, truth, rtol=0.06)
    assert ed_es_frames(volumes) == pytest.approx(views[0].ed_es_indices(phases), abs=1)
    fraction = 1 - volumes.min() / volumes.max()
    assert fraction == pytest.approx(views[0].ejection_fraction, abs=0.03)


def test_frames_that_cannot_be_measured() -> None:
    labels = half_ellipse(80, 45)
    empty = np.concatenate([labels, np.zeros_like(labels)])
    volumes = biplane_volumes(empty, 0.5, empty, 0.5)
    assert np.isfinite(volumes[0]) and np.isnan(volumes[1]) and ed_es_frames(volumes) == (0, 0)
    with pytest.raises(ValueError, match="as many in both views"):
        biplane_volumes(labels, 0.5, empty, 0.5)
    with pytest.raises(ValueError, match="No frame has a volume"):
        ed_es_frames(np.full(3, np.nan))
