"""Smooth fields near one place: cubic B-splines on a small lattice.

The coefficients are the values at the nodes, so that a field never leaves the range of its nodes and is a little
smoother than they are. It is a function of the point alone: a slice sees what the volume sees.
"""

from __future__ import annotations

import numpy as np

from meddiffusers.data.brain_phantom.boxes import span
from meddiffusers.data.brain_phantom.smooth_field import Grid

_POWER = 0.479**3  # variance of a B-spline field with coefficients of variance 1


class LocalField:
    """Fields with coefficients (fields, nx, ny, nz) at the nodes low + spacing·index in mm.

    Called with a grid it gives (fields, X, Y, Z) float32. Within `low` and `high`, one node inside the lattice,
    constant and linear coefficients are met exactly; two nodes outside the lattice every field is 0.
    """

    def __init__(self, low: np.ndarray, spacing: float, coefficients: np.ndarray) -> None:
        self._first, self.spacing = np.asarray(low, dtype=np.float64), spacing
        self.coefficients = coefficients.astype(np.float32)
        self.low = self._first + spacing
        self.high = self._first + spacing * (np.array(coefficients.shape[1:]) - 2)

    @classmethod
    def noise(cls, rng: np.random.Generator, nodes: Grid, scale: float, fields: int) -> LocalField:
        """Gaussian fields of mean 0 and variance 1, with detail of `scale` mm, over a grid of nodes."""
        low = np.array([planes[0] for planes in nodes]) - 1.5 * scale
        high = np.array([planes[-1] for planes in nodes])
        shape = np.ceil((high - low) / scale).astype(int) + 3
        return cls(low, scale, rng.standard_normal((fields, *shape)) / np.sqrt(_POWER))

    def __call__(self, grid: Grid) -> np.ndarray:
        weights = [self._weights(planes, axis) for axis, planes in enumerate(grid)]
        used = [span(weight.any(axis=0)) for weight in weights]  # a slice touches few of the nodes
        values = self.coefficients[(slice(None), *used)]
        for axis, (weight, part) in enumerate(zip(weights, used, strict=True), 1):
            values = np.moveaxis(np.tensordot(values, weight[:, part], axes=([axis], [1])), -1, axis)
        return values

    def _weights(self, planes: np.ndarray, axis: int) -> np.ndarray:
        """(planes, nodes) of the B-spline basis along one axis."""
        nodes = np.arange(self.coefficients.shape[axis + 1])
        distance = np.abs((np.asarray(planes)[:, None] - self._first[axis]) / self.spacing - nodes)
        near, far = (4 - 6 * distance**2 + 3 * distance**3) / 6, np.clip(2 - distance, 0, None) ** 3 / 6
        return np.where(distance < 1, near, far).astype(np.float32)


def lattice(centre: np.ndarray, half_width: float, spacing: float) -> Grid:
    """Planes of a cube of nodes about a centre, `spacing` mm apart, two nodes wider than `half_width` on each side."""
    steps = np.arange(-np.ceil(half_width / spacing) - 2, np.ceil(half_width / spacing) + 3)
    x, y, z = (middle + spacing * steps for middle in centre)
    return x, y, z


def coordinates(grid: Grid) -> np.ndarray:
    """(3, X, Y, Z) mm of the points of a grid, float32."""
    return np.stack(np.meshgrid(*grid, indexing="ij")).astype(np.float32)
