from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from meddiffusers.data.phantoms.brain.contrasts import INTENSITIES, MODALITIES
from meddiffusers.data.phantoms.brain.scanner import FULL_SCALE, Acquisition, random_acquisitions

VISIT = random_acquisitions(np.random.default_rng(0))
LOUD = replace(VISIT["t1"], noise=0.1, gain=1.5)
SHAPE = (40, 40, 40)


def noisy(level: float, acquisition: Acquisition = LOUD, voxel_volume: float = 1.0, seed: int = 0) -> np.ndarray:
    image = np.full(SHAPE, level, np.float32)
    return acquisition.add_noise(image, voxel_volume, np.random.default_rng(seed))


def test_air_has_the_moments_of_rayleigh() -> None:
    values, sigma = noisy(0.0).astype(float), 0.1 * 1.5 * FULL_SCALE
    assert values.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.01)
    assert values.var() == pytest.approx(sigma**2 * (2 - np.pi / 2), rel=0.02)


@pytest.mark.parametrize("level", [0.05, 0.2, 0.8])
def test_a_signal_has_the_second_moment_of_rice(level: float) -> None:
    values = noisy(level).astype(float) / (1.5 * FULL_SCALE)
    assert (values**2).mean() == pytest.approx(level**2 + 2 * 0.1**2, rel=0.01)


def test_noise_falls_with_the_root_of_the_voxels_volume() -> None:
    fine, coarse = (noisy(2.0, voxel_volume=volume).std() for volume in (1.0, 8.0))
    assert fine / coarse == pytest.approx(8**0.5, rel=0.03)
    assert noisy(2.0, voxel_volume=0.01).std() == pytest.approx(fine / 0.3**0.5, rel=0.03)  # no noisier than that


def test_what_is_received_is_a_rounded_int16_of_its_seed() -> None:
    silent = replace(LOUD, noise=0.0)
    np.testing.assert_array_equal(noisy(0.4321, silent), round(0.4321 * 1.5 * FULL_SCALE))
    assert noisy(1e3, silent).max() == 32767
    assert noisy(0.5).dtype == np.int16
    np.testing.assert_array_equal(noisy(0.5, seed=1), noisy(0.5, seed=1))
    assert (noisy(0.5, seed=1) != noisy(0.5, seed=2)).mean() > 0.9


def test_a_ramp_moves_by_its_millimetres() -> None:
    x, y, z = np.meshgrid(*(np.arange(size, dtype=np.float32) for size in (10, 12, 14)), indexing="ij")
    ramp, spacing = 2 * x + 3 * y - z, (1.0, 2.0, 0.5)
    moved = replace(LOUD, shift=np.array([0.4, -0.6, 0.2])).apply_shift(ramp, spacing)
    inner = (slice(2, -2),) * 3
    expected = ramp - (2 * 0.4 / 1 + 3 * -0.6 / 2 - 0.2 / 0.5)
    np.testing.assert_allclose(moved[inner], expected[inner], atol=1e-4)


def test_a_single_slice_does_not_move_through_itself() -> None:
    image = np.random.default_rng(0).random((8, 9, 1), np.float32)
    np.testing.assert_array_equal(
        replace(LOUD, shift=np.array([0.0, 0.0, 0.4])).apply_shift(image, (1.0, 1.0, 1.0)), image
    )


def test_shading_is_the_exponential_of_a_smooth_field() -> None:
    grid = tuple(np.arange(-40.0, 40, 4) for _ in range(3))
    mixture = np.random.default_rng(0).uniform(0.5, 1, (20, 20, 20)).astype(np.float32)
    shaded = replace(LOUD, bias_strength=0.3).apply_bias_field(mixture, grid)
    field = np.log(shaded / mixture) / 0.3
    np.testing.assert_allclose(field, LOUD.bias(grid)[0], atol=1e-4)
    assert np.abs(np.diff(field, axis=0)).max() < 0.3  # in 4 mm, of a field of variance 1
    np.testing.assert_array_equal(replace(LOUD, bias_strength=0.0).apply_bias_field(mixture, grid), mixture)


def test_a_visit_scatters_about_the_table_and_moves_little() -> None:
    visits = [random_acquisitions(np.random.default_rng(seed)) for seed in range(40)]
    assert tuple(visits[0]) == MODALITIES
    for name in MODALITIES:
        ratios = np.stack([visit[name].intensities for visit in visits]) / INTENSITIES[name]
        assert ratios.mean() == pytest.approx(1, abs=0.01)
        assert ratios.std() == pytest.approx(0.04, rel=0.15)
    first, others = MODALITIES[0], MODALITIES[1:]
    assert not any(visit[first].shift.any() for visit in visits)
    shifts = np.stack([visit[name].shift for visit in visits for name in others])
    assert shifts.std() == pytest.approx(0.3, rel=0.15)
    assert np.abs(shifts).max() < 1.5
    assert all(0.005 < visit[name].noise < 0.04 for visit in visits for name in MODALITIES)


def test_a_visit_follows_from_its_seed() -> None:
    again = random_acquisitions(np.random.default_rng(0))
    for name in MODALITIES:
        np.testing.assert_array_equal(again[name].intensities, VISIT[name].intensities)
        np.testing.assert_array_equal(again[name].bias.coefficients, VISIT[name].bias.coefficients)
        assert (again[name].noise, again[name].gain) == (VISIT[name].noise, VISIT[name].gain)
