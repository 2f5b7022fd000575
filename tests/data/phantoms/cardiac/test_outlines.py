from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr

from meddiffusers.data.phantoms.cardiac import MEASUREMENTS, CardiacPhantom
from meddiffusers.data.phantoms.cardiac.ground_truth import measure_outlines
from meddiffusers.data.phantoms.cardiac.outlines import Outlines

MANY = [(seed, view) for seed in range(60) for view in ("4CH", "2CH")]


def phases_with_end_systole(phantom: CardiacPhantom, frames: int = 21) -> np.ndarray:
    """Evenly spaced phases and that of end systole."""
    return np.sort(np.append(phantom.phases(frames), phantom.end_systole))


def test_measurements_of_a_leaning_half_ellipse() -> None:
    """Semi-axes a and b, cut along a: area πab/2, centre of mass 4b/3π from the cut; rotated about its middle."""
    a, b, orientation = 20.0, 80.0, np.deg2rad(25)
    angle = np.linspace(np.pi, 0, 4001)
    upright = np.stack([a * np.cos(angle), -b * np.sin(angle)], axis=-1)
    turn = np.array([[np.cos(orientation), -np.sin(orientation)], [np.sin(orientation), np.cos(orientation)]])
    points = (upright @ turn.T + [10, 90])[None]
    values = {name: value[0] for name, value in measure_outlines(Outlines(points, points, points)).items()}
    middle = 4 * b / (3 * np.pi)
    expected = {
        "lv_area": np.pi * a * b / 2,
        "lv_length": b,
        "base_width": 2 * a,
        "orientation": 25.0,
        "myo_area": 0.0,
        "epi_x": 10 + middle * np.sin(orientation),
        "epi_y": 90 - middle * np.cos(orientation),
        "volume": 2 / 3 * np.pi * a**2 * b / 1000,  # half an ellipsoid
    }
    assert list(values) == list(MEASUREMENTS)
    np.testing.assert_allclose(list(values.values()), list(expected.values()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.55, 0.75, 0.8])
def test_the_requested_ejection_fraction_is_that_of_the_outlines(fraction: float) -> None:
    for seed, view in MANY[:20]:
        phantom = CardiacPhantom(seed, view, ejection_fraction=fraction)
        volume = phantom.ground_truth(np.array([0, phantom.end_systole]))["volume"]
        assert 1 - volume[1] / volume[0] == pytest.approx(fraction, abs=0.002)


@pytest.mark.slow
def test_requested_length_width_and_orientation() -> None:
    for seed, view in MANY:
        phantom = CardiacPhantom(seed, view, length=92, width=48)
        lines, truth = phantom.outlines(np.zeros(1)), phantom.ground_truth(np.zeros(1))
        assert truth["lv_length"][0] == pytest.approx(92, abs=0.15)
        assert truth["orientation"][0] == pytest.approx(phantom.heart.orientation, abs=6)  # bent and blunt on one side
        sides = (
            lines.endocardium[0, :100],
            lines.endocardium[0, :98:-1],
        )  # at equal height, so apart across the sheared axis
        assert np.linalg.norm(sides[0] - sides[1], axis=-1).max() == pytest.approx(48, abs=0.01)
        np.testing.assert_allclose(lines.endocardium[0, lines.endocardium.shape[1] // 2], phantom.heart.apex, atol=1e-9)


@pytest.mark.slow
def test_end_diastole_is_largest_and_end_systole_smallest() -> None:
    for seed, view in MANY:
        phantom = CardiacPhantom(seed, view)
        phases = phases_with_end_systole(phantom)
        truth = phantom.ground_truth(phases)
        largest, smallest = phantom.ed_es_indices(phases)
        assert (largest, phases[smallest]) == (0, phantom.end_systole)
        for name in ("lv_area", "lv_length", "volume"):
            assert (truth[name].argmax(), truth[name].argmin()) == (largest, smallest)


@pytest.mark.slow
def test_the_myocardium_keeps_its_area_and_thickens() -> None:
    for seed, view in MANY:
        phantom = CardiacPhantom(seed, view)
        phases = phases_with_end_systole(phantom)
        area = phantom.ground_truth(phases)["myo_area"]
        assert np.ptp(area) / area[0] < 0.06
        lines = phantom.outlines(phases)
        wall = np.linalg.norm(lines.epicardium[:, 12:-12] - lines.endocardium, axis=-1)
        smallest = phantom.ed_es_indices(phases)[1]
        assert (wall[smallest] > 1.05 * wall[0]).all()
        assert wall[0, 99] < 0.9 * wall[0, [30, -30]].mean()  # thinner at the apex


@pytest.mark.slow
def test_the_width_relative_to_the_wall_is_bounded() -> None:
    """At most 4.15 wall thicknesses at half height."""
    for seed, view in MANY:
        lines = CardiacPhantom(seed, view).outlines(CardiacPhantom(seed, view).phases(9))
        half = 29  # u = ½
        width = np.linalg.norm(lines.endocardium[:, half] - lines.endocardium[:, -1 - half], axis=-1)
        wall = np.linalg.norm(lines.epicardium[:, 12:-12] - lines.endocardium, axis=-1)[:, [half, -1 - half]].mean(
            axis=1
        )
        assert (width / wall).max() <= 4.15


def test_the_base_descends_and_the_atrium_fills() -> None:
    for seed, view in MANY:
        phantom = CardiacPhantom(seed, view)
        lines = phantom.outlines(np.array([0, phantom.end_systole]))
        base = (lines.endocardium[:, 0] + lines.endocardium[:, -1]) / 2
        apex = lines.endocardium[:, lines.endocardium.shape[1] // 2]
        assert base[0, 1] - base[1, 1] > 3
        assert np.linalg.norm(apex[1] - apex[0]) < 4
        far = lines.atrium[:, lines.atrium.shape[1] // 2]
        np.testing.assert_allclose(far[0], far[1], atol=0.3)
        assert np.linalg.norm(far - base, axis=1)[1] > np.linalg.norm(far - base, axis=1)[0]


def test_outlines_are_smooth() -> None:
    """The direction changes by a few degrees at most between successive edges of the endocardium."""
    for seed, view in MANY:
        endocardium = CardiacPhantom(seed, view).outlines(np.array([0, 0.3, 0.6])).endocardium
        heading = np.unwrap(np.arctan2(*np.moveaxis(np.diff(endocardium, axis=1), -1, 0)), axis=1)
        assert np.rad2deg(abs(np.diff(heading, axis=1))).max() < 8


def test_both_views_show_one_patient() -> None:
    views = [[CardiacPhantom(seed, view) for view in ("4CH", "2CH")] for seed in range(40)]
    for four, two in views:
        assert four.ejection_fraction == two.ejection_fraction
        assert four.end_systole == two.end_systole
        assert four.heart.length == two.heart.length
        assert four.heart.width == pytest.approx(two.heart.width, rel=0.15)
        assert four.heart.orientation != two.heart.orientation
    weak = [(pair[0].ejection_fraction, pair[0].heart.width) for pair in views]
    assert pearsonr(*zip(*weak, strict=True)).statistic < -0.2  # weak ventricles are wide


def test_ejection_fractions_and_volumes_are_realistic() -> None:
    phantoms = [CardiacPhantom(seed) for seed in range(400)]
    fractions = np.array([phantom.ejection_fraction for phantom in phantoms])
    assert fractions.min() >= 0.30
    assert fractions.max() <= 0.75
    assert 0.48 < np.median(fractions) < 0.58
    assert 0.15 < (fractions < 0.45).mean() < 0.35
    volumes = np.array([phantom.ground_truth(np.zeros(1))["volume"][0] for phantom in phantoms[:100]])
    assert 70 < np.median(volumes) < 110
    assert volumes.min() > 30
    assert volumes.max() < 180


def test_a_frame_does_not_depend_on_the_others() -> None:
    phantom = CardiacPhantom(3)
    phases = phantom.phases(7)
    together, alone = phantom.outlines(phases), phantom.outlines(phases[3:4])
    np.testing.assert_allclose(together.epicardium[3:4], alone.epicardium, atol=1e-12)
    np.testing.assert_allclose(together.atrium[3:4], alone.atrium, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"view": "3CH"}, r"got the view '3CH'; expected one of 4CH, 2CH"),
        ({"seed": -1}, "got the seed -1; expected 0 or above"),
        ({"ejection_fraction": 55}, r"got ejection_fraction = 55; expected 0.1 to 0.8"),
        ({"heart_rate": 20}, "got heart_rate = 20; expected 40 to 130"),
        ({"length": 9.0}, "got length = 9.0; expected 60 to 110"),
        ({"width": 100}, "got width = 100; expected 30 to 65"),
        ({"quality": "good"}, "got the quality 'good'; expected one of Good, Medium, Poor"),
    ],
)
def test_invalid_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CardiacPhantom(**{"seed": 0, **arguments})
