from __future__ import annotations

import numpy as np
from matplotlib.path import Path as Polygon

from meddiffusers.data.phantoms.cardiac.outlines import polygon_area
from meddiffusers.data.phantoms.cardiac.raster import count_cells, fill_polygon


def test_random_polygons_agree_with_matplotlib() -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.indices((40, 50))
    centres = np.stack([columns + 0.5, rows + 0.5], axis=-1).reshape(-1, 2)
    for _ in range(20):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 30))
        radius = rng.uniform(5, 30, 30)  # may exceed the image
        polygon = np.stack([25 + radius * np.cos(angle), 20 + radius * np.sin(angle)], axis=-1)
        expected = Polygon(polygon).contains_points(centres).reshape(40, 50)
        np.testing.assert_array_equal(fill_polygon(polygon, 40, 50), expected)


def test_a_rectangle_fills_the_cells_whose_centres_it_contains() -> None:
    rectangle = np.array([[1.4, 2.6], [4.6, 2.6], [4.6, 5.4], [1.4, 5.4]])
    expected = np.zeros((8, 6), np.uint8)
    expected[3:5, 1:5] = 1
    np.testing.assert_array_equal(fill_polygon(rectangle, 8, 6), expected)


def test_self_intersections_follow_the_even_odd_rule() -> None:
    square = np.array([[0, 0], [6, 0], [6, 6], [0, 6]], float)
    twice = np.concatenate([square, square])
    assert not fill_polygon(twice, 6, 6).any()


def test_set_cells_are_counted() -> None:
    mask = np.random.default_rng(0).integers(0, 2, (12, 9)).astype(np.uint8)
    expected = [[mask[3 * i : 3 * i + 3, 3 * j : 3 * j + 3].sum() for j in range(3)] for i in range(4)]
    np.testing.assert_array_equal(count_cells(mask, 3), expected)


def test_shoelace() -> None:
    triangle = np.array([[0, 0], [4, 0], [0, 3]], float)
    np.testing.assert_allclose(polygon_area(np.stack([triangle, triangle[::-1] * 2])), [6, 24])
