"""The fan of beams of a phased array: samples along beams, and their way into a image.

Samples (RANGES, BEAMS): row i lies NEAREST + i·step mm from the probe, column j in the direction −HALF_ANGLE + j·turn
from straight down, to the right where positive. A beam has one width in angle, so what lies deeper is blurred more.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

RANGES, BEAMS = 288, 160
HALF_ANGLE = 0.74  # radians
NEAREST = 3.0  # mm
_TURN = 2 * HALF_ANGLE / (BEAMS - 1)


class Sector:
    """Beams that end at `depth` mm."""

    def __init__(self, depth: float) -> None:
        self.step = (depth - NEAREST) / (RANGES - 1)
        self.angle = np.linspace(-HALF_ANGLE, HALF_ANGLE, BEAMS, dtype=np.float32)
        self.range = NEAREST + self.step * np.arange(RANGES, dtype=np.float32)[:, None]
        self.points = np.stack([self.range * np.sin(self.angle), self.range * np.cos(self.angle)], axis=-1)

    def samples(self, points: np.ndarray) -> np.ndarray:
        """Column and row (..., 2), as floats, of points (..., 2) of x and y in mm; whole numbers are sample centres."""
        x, y = points[..., 0], points[..., 1]
        return np.stack([(np.arctan2(x, y) + HALF_ANGLE) / _TURN, (np.hypot(x, y) - NEAREST) / self.step], axis=-1)

    def image_grid(self, shape: tuple[int, int], spacing: float) -> np.ndarray:
        """Row and column (2, H, W) of every pixel's centre in the samples, for `image`."""
        rows, columns = np.indices(shape, dtype=np.float32)
        x, y = (columns + 0.5 - shape[1] / 2) * spacing, (rows + 0.5) * spacing
        return np.moveaxis(self.samples(np.stack([x, y], axis=-1))[..., ::-1], -1, 0)

    def image(self, brightness: np.ndarray, grid: np.ndarray, spacing: float) -> np.ndarray:
        """(H, W) of samples (RANGES, BEAMS); black outside the fan."""
        smooth = ndimage.gaussian_filter1d(brightness, 0.35 * spacing / self.step, axis=0)
        return ndimage.map_coordinates(smooth, grid, order=1, mode="constant")
