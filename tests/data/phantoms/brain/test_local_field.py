from __future__ import annotations

import numpy as np
from scipy.interpolate import BSpline

from meddiffusers.data.phantoms.brain.boxes import crop_grid, find_box
from meddiffusers.data.phantoms.brain.local_field import LocalField, lattice
from meddiffusers.data.phantoms.brain.smooth_field import Grid, points_of

GRID: Grid = (np.linspace(-6, 7, 9), np.linspace(3, 12, 5), np.array([20.5]))
NODES = lattice(np.array([0.0, 8.0, 20.0]), 9.0, 1.5)


def test_it_is_the_cubic_b_spline_of_its_coefficients() -> None:
    rng = np.random.default_rng(0)
    coefficients = rng.standard_normal((1, 9, 1, 1))
    field = LocalField(np.array([-8.0, 0.0, 0.0]), 2.0, np.tile(coefficients, (1, 1, 9, 9)))
    x = np.linspace(-6, 6, 31)
    knots = -8.0 + 2.0 * np.arange(-2, 11)  # node i is the middle knot of its basis function
    expected = BSpline(knots, coefficients.ravel(), 3)(x)
    np.testing.assert_allclose(field((x, np.array([8.0]), np.array([8.0])))[0, :, 0, 0], expected, atol=1e-5)


def test_linear_coefficients_give_the_line() -> None:
    field = LocalField(np.array([planes[0] for planes in NODES]), 1.5, points_of(NODES))
    np.testing.assert_allclose(field(GRID), points_of(GRID), atol=1e-4)
    assert (field.low <= [-9, -1, 11]).all() and (field.high >= [9, 17, 29]).all()


def test_far_from_the_lattice_it_is_nothing() -> None:
    field = LocalField(np.array([planes[0] for planes in NODES]), 1.5, np.ones((2, *(len(p) for p in NODES))))
    away: Grid = (np.array([90.0, 100.0]), GRID[1], GRID[2])
    np.testing.assert_array_equal(field(away), np.zeros((2, 2, 5, 1)))


def test_noise_has_mean_0_and_variance_1_over_its_nodes() -> None:
    nodes = lattice(np.zeros(3), 40.0, 1.7)
    values = LocalField.noise(np.random.default_rng(1), nodes, 5.0, 4)(nodes)
    assert abs(values.mean()) < 0.1
    assert abs(values.var() - 1) < 0.15
    edges = values[:, [0, -1]]
    assert 0.6 < edges.var() < 1.5


def test_the_part_of_a_grid_between_two_corners() -> None:
    box = find_box(GRID, np.array([-3.0, 0.0, 20.0]), np.array([3.0, 8.0, 21.0]))
    part = crop_grid(GRID, box)
    np.testing.assert_array_equal(part[0], GRID[0][(GRID[0] >= -3) & (GRID[0] <= 3)])
    assert [len(planes) for planes in part] == [4, 3, 1]
    assert [len(planes) for planes in crop_grid(GRID, find_box(GRID, np.full(3, 50.0), np.full(3, 60.0)))] == [0, 0, 0]
