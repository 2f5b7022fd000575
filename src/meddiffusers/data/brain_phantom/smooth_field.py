"""Smooth random fields: uniform cubic B-splines with random coefficients on a coarse lattice over the head.

The value at a point is a sum of 4³ coefficients, and on an axis-aligned grid three small matrix products give them all,
so that a slice, a volume or a volume of another spacing sees one and the same field.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LOW, HIGH = np.array([-110.0, -150.0, -110.0]), np.array([110.0, 120.0, 120.0])  # mm, holds every head
_POWER = 0.479**3  # a variance: mean of the squared B-spline weights of one axis, cubed

Grid = tuple[np.ndarray, np.ndarray, np.ndarray]  # mm of the planes along x, y and z


class SmoothField:
    """Gaussian fields of mean 0 and variance 1 whose detail is about `scale` mm wide.

    Called with a grid it gives (fields, X, Y, Z) float32. Coefficients given as `coefficients` (fields, nx, ny, nz) on
    the lattice LOW + scale·(index − 1) are taken as they are.
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
            coefficients = rng.standard_normal((fields, *nodes)).astype(np.float32) / np.float32(np.sqrt(_POWER))
        self.coefficients = coefficients

    def __call__(self, grid: Grid) -> np.ndarray:
        weights = [self._weights(planes, axis) for axis, planes in enumerate(grid)]
        used = [_span(np.any(weight, axis=0)) for weight in weights]
        values = self.coefficients[(slice(None), *used)]
        for axis, (weight, nodes) in enumerate(zip(weights, used, strict=True), start=1):
            values = np.moveaxis(np.tensordot(values, weight[:, nodes], axes=([axis], [1])), -1, axis)
        return values

    def _weights(self, planes: np.ndarray, axis: int) -> np.ndarray:
        """(planes, nodes) of the B-spline basis along one axis."""
        nodes = np.arange(self.coefficients.shape[axis + 1]) - 1
        distance = np.abs((np.asarray(planes)[:, None] - LOW[axis]) / self.scale - nodes)
        near, far = (4 - 6 * distance**2 + 3 * distance**3) / 6, np.clip(2 - distance, 0, None) ** 3 / 6
        return np.where(distance < 1, near, far).astype(np.float32)


def _span(used: npt.ArrayLike) -> slice:
    """From the first node with a weight to the last."""
    hit = np.flatnonzero(used)
    return slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 1)
