"""Varied hearts cover what hearts are, lie within the image, and keep their ejection fraction."""

from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.data.phantoms.cardiac import CardiacPhantom
from meddiffusers.data.phantoms.cardiac.sector import HALF_ANGLE, inside_sector
from meddiffusers.data.phantoms.cardiac.varied import LENGTH, SIDE, TILT, WALL, WIDTH

MANY = [CardiacPhantom(seed, ("4CH", "2CH")[seed % 2], varied=True) for seed in range(200)]


def test_the_ranges_are_covered() -> None:
    hearts = [phantom.heart for phantom in MANY]
    for values, (low, high) in (
        ([heart.width for heart in hearts], WIDTH),
        ([heart.length for heart in hearts], LENGTH),
        ([heart.wall_thickness for heart in hearts], WALL),
        ([heart.ejection_fraction for heart in hearts], (0.10, 0.75)),
        ([heart.orientation for heart in hearts], (-TILT, TILT)),
    ):
        span = high - low
        assert low - 0.06 * span <= min(values) < low + 0.15 * span and high - 0.15 * span < max(values) <= high
    kinds = [(bool(heart.cavity_bumps), len(heart.wall_bumps)) for heart in hearts]
    assert {(False, 3), (False, 4), (True, 4)} == set(kinds)


def test_ejection_fractions_and_places() -> None:
    for phantom in MANY:
        phases = np.array([0, phantom.end_systole])
        volumes = phantom.ground_truth(phases)["volume"]
        assert 1 - volumes[1] / volumes[0] == pytest.approx(phantom.ejection_fraction, abs=0.03)
        epicardium = phantom.outlines(phases).epicardium
        assert np.abs(epicardium[..., 0]).max() < SIDE / 2 and epicardium[..., 1].min() > 0
        assert epicardium[..., 1].max() < SIDE


def test_a_varied_heart_takes_no_further_values() -> None:
    with pytest.raises(ValueError, match=r"further arguments \[60\]; expected none"):
        CardiacPhantom(1, varied=True, heart_rate=60)


def test_the_sector_is_a_wedge_below_the_probe() -> None:
    mask = inside_sector((100, 100), 1.0)
    widths = mask.sum(axis=1)
    assert np.all(np.diff(widths) >= 0) and widths[49] == pytest.approx(2 * 49.5 * np.tan(HALF_ANGLE), abs=2)
    np.testing.assert_array_equal(mask, mask[:, ::-1])
