"""Smooth random fields: uniform cubic B-splines with random coefficients on a coarse lattice over the head.

The value at a point is a weighted sum of 4³ coefficients; on an axis-aligned grid three small matrix products evaluate
all of them. The field depends on the position alone: slices and volumes of any spacing sample the same field.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LOW, HIGH = np.array([-110.0, -150.0, -110.0]), np.array([110.0, 120.0, 120.0])  # mm, holds every head
POWER = 0.479**3  # variance of a field with coefficients of variance 1

Grid = tuple[np.ndarray, np.ndarray, np.ndarray]  # mm of the planes along x, y and z


class SmoothField:
    """Gaussian random fields of mean 0 and variance 1. A call with a grid returns (fields, X, Y, Z) float32.

    Args:
        rng: source of the coefficients.
        scale: mm, spacing of the lattice and so about the correlation length.
        fields: number of independent fields.
        coefficients: (fields, nx, ny, nz) on the lattice LOW + scale · (index − 1), instead of random ones.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        scale: float,
        fields: int = 1,
        coefficients: np.ndarray | None = None,
    ) -> None:
        self.scale = scale
        if coefficients is None:
            nodes = np.ceil((HIGH - LOW) / scale).astype(int) + 3
            coefficients = rng.standard_normal((fields, *nodes)).astype(np.float32) / np.float32(np.sqrt(POWER))
        self.coefficients = coefficients

    def __call__(self, grid: Grid) -> np.ndarray:
        return spline_values(self.coefficients, LOW - self.scale, self.scale, grid)


def spline_values(coefficients: np.ndarray, first: np.ndarray, spacing: float, grid: Grid) -> np.ndarray:
    """(fields, X, Y, Z) float32 from coefficients (fields, nx, ny, nz) at the nodes first + spacing · index, mm."""
    axes = zip(grid, first, coefficients.shape[1:], strict=True)
    weights = [_weights(planes, low, spacing, count) for planes, low, count in axes]
    used = [span(np.any(weight, axis=0)) for weight in weights]  # a slice depends on few of the nodes
    values = coefficients[(slice(None), *used)]
    for axis, (weight, nodes) in enumerate(zip(weights, used, strict=True), start=1):
        values = np.moveaxis(np.tensordot(values, weight[:, nodes], axes=([axis], [1])), -1, axis)
    return values


def points_of(grid: Grid) -> np.ndarray:
    """(3, X, Y, Z) float32 coordinates in mm of the points of a grid."""
    return np.stack(np.meshgrid(*grid, indexing="ij")).astype(np.float32)


def span(flags: npt.ArrayLike) -> slice:
    """Slice from the first to the last True of a row of flags; empty if there is none."""
    where = np.flatnonzero(flags)
    return slice(int(where[0]), int(where[-1]) + 1) if where.size else slice(0, 0)


def _weights(planes: np.ndarray, low: float, spacing: float, count: int) -> np.ndarray:
    """(planes, nodes) weights of the cubic B-spline basis along one axis."""
    distance = np.abs((np.asarray(planes)[:, None] - low) / spacing - np.arange(count))
    near, far = (4 - 6 * distance**2 + 3 * distance**3) / 6, np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)
