"""Varied hearts cover what hearts are, lie within the image, and keep their ejection fraction."""

from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.data.phantoms.cardiac import CardiacPhantom
from meddiffusers.data.phantoms.cardiac.jitter import jitter_borders
from meddiffusers.data.phantoms.cardiac.sector import HALF_ANGLE, inside_sector
from meddiffusers.data.phantoms.cardiac.varied import LENGTH, SIDE, TILT, WALL, WIDTH
from meddiffusers.pipelines.meddiffusers_cardiac_masks_v1 import signed_distance

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


@pytest.mark.parametrize("deviation", [0.4, 1.0])
def test_borders_jitter_by_the_stated_deviation_each_by_itself(deviation: float) -> None:
    phantom = CardiacPhantom(3)
    clean = phantom.labels(phantom.phases(4), (400, 400), 0.4)
    jittered = jitter_borders(clean, 0.4, deviation, np.random.default_rng(0))
    displaced = []
    for inner in ((1,), (1, 2)):
        distance = signed_distance(np.isin(clean, inner), (0.4, 0.4))
        change = signed_distance(np.isin(jittered, inner), (0.4, 0.4)) - distance
        border = np.abs(distance) < 0.3
        assert np.std(change[border]) == pytest.approx(deviation, rel=0.25)
        displaced.append(change)
    near = np.abs(signed_distance(np.isin(clean, (1, 2)), (0.4, 0.4))) < 0.3
    assert abs(np.corrcoef(displaced[0][near], displaced[1][near])[0, 1]) < 0.5
    np.testing.assert_array_equal(
        jitter_borders(clean[:1], 0.4, 0.0, np.random.default_rng(0)), np.where(clean[:1] == 3, 0, clean[:1])
    )


def test_the_sector_is_a_wedge_below_the_probe() -> None:
    mask = inside_sector((100, 100), 1.0)
    widths = mask.sum(axis=1)
    assert np.all(np.diff(widths) >= 0) and widths[49] == pytest.approx(2 * 49.5 * np.tan(HALF_ANGLE), abs=2)
    np.testing.assert_array_equal(mask, mask[:, ::-1])
