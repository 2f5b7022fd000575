"""Smooth fields with local support: cubic B-splines on a small lattice.

The values at the nodes serve as coefficients, so that a field stays in the range of its nodes and is slightly smoother
than they are. It depends on the position alone: a slice has the same values as the volume.
"""

from __future__ import annotations

import numpy as np

from meddiffusers.data.phantoms.brain.smooth_field import POWER, Grid, spline_values


class LocalField:
    """Fields with coefficients (fields, nx, ny, nz) at the nodes low + spacing · index in mm.

    A call with a grid returns (fields, X, Y, Z) float32. Between `low` and `high`, one node inside the lattice,
    constant and linear coefficients are reproduced exactly; two nodes outside the lattice every field is 0.
    """

    def __init__(self, low: np.ndarray, spacing: float, coefficients: np.ndarray) -> None:
        self._first, self.spacing = np.asarray(low, dtype=np.float64), spacing
        self.coefficients = coefficients.astype(np.float32)
        self.low = self._first + spacing
        self.high = self._first + spacing * (np.array(coefficients.shape[1:]) - 2)

    @classmethod
    def noise(cls, rng: np.random.Generator, nodes: Grid, scale: float, fields: int) -> LocalField:
        """Gaussian fields of mean 0, variance 1 and a correlation length of about `scale` mm over a grid of nodes."""
        low = np.array([planes[0] for planes in nodes]) - 1.5 * scale
        high = np.array([planes[-1] for planes in nodes])
        shape = np.ceil((high - low) / scale).astype(int) + 3
        return cls(low, scale, rng.standard_normal((fields, *shape)) / np.sqrt(POWER))

    def __call__(self, grid: Grid) -> np.ndarray:
        return spline_values(self.coefficients, self._first, self.spacing, grid)


def lattice(centre: np.ndarray, half_width: float, spacing: float) -> Grid:
    """Planes of a cube of nodes around a centre, `spacing` mm apart, two nodes beyond `half_width` on each side."""
    steps = np.arange(-np.ceil(half_width / spacing) - 2, np.ceil(half_width / spacing) + 3)
    x, y, z = (middle + spacing * steps for middle in centre)
    return x, y, z
