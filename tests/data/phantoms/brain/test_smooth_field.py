from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.data.phantoms.brain.smooth_field import SmoothField

GRID = tuple(np.arange(-60.0, 60.0, 2.0) for _ in range(3))


def test_values_have_mean_0_and_variance_1() -> None:
    values = SmoothField(np.random.default_rng(0), 5, 6)(GRID)
    assert abs(values.mean()) < 0.05
    assert values.std() == pytest.approx(1, abs=0.05)


def test_the_basis_sums_to_1() -> None:
    field = SmoothField(np.random.default_rng(0), 7)
    constant = SmoothField(np.random.default_rng(0), 7, coefficients=np.full_like(field.coefficients, 3))
    np.testing.assert_allclose(constant(GRID), 3, rtol=1e-5)


def test_a_plane_alone_equals_the_plane_of_the_volume() -> None:
    x, y, z = GRID
    field = SmoothField(np.random.default_rng(1), 6, 2)
    np.testing.assert_allclose(field((x, y, z[20:21]))[..., 0], field(GRID)[..., 20], atol=1e-5)


def test_detail_is_as_wide_as_the_scale() -> None:
    near, far = (SmoothField(np.random.default_rng(2), scale, 4)(GRID) for scale in (4, 16))
    assert np.abs(np.diff(near, axis=1)).mean() > 3 * np.abs(np.diff(far, axis=1)).mean()


def test_a_grid_without_planes_has_no_values() -> None:
    x, y, z = GRID
    assert SmoothField(np.random.default_rng(0), 5, 2)((x, y, z[:0])).shape == (2, len(x), len(y), 0)


def test_a_field_follows_from_its_seed() -> None:
    one, same, other = (SmoothField(np.random.default_rng(seed), 9)(GRID) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one, same)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.3
