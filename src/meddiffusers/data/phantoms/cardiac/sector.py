"""Geometry of a phased-array sector: samples along beams, and their conversion to an image.

Samples have the shape (RANGES, BEAMS). Row i lies NEAREST + i·step mm from the probe; column j points in the direction
−HALF_ANGLE + j·turn from straight down, positive to the right. The beam width is constant in angle, so blur increases
with depth.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

RANGES, BEAMS = 288, 160
HALF_ANGLE = 0.74  # radians
NEAREST = 3.0  # mm
_TURN = 2 * HALF_ANGLE / (BEAMS - 1)


class Sector:
    """Sector of beams.

    Args:
        depth: Depth in mm at which the beams end.
    """

    def __init__(self, depth: float) -> None:
        self.step = (depth - NEAREST) / (RANGES - 1)
        self.angle = np.linspace(-HALF_ANGLE, HALF_ANGLE, BEAMS, dtype=np.float32)
        self.range = NEAREST + self.step * np.arange(RANGES, dtype=np.float32)[:, None]
        self.points = np.stack([self.range * np.sin(self.angle), self.range * np.cos(self.angle)], axis=-1)

    def samples(self, points: np.ndarray) -> np.ndarray:
        """Convert points (..., 2), x and y in mm, to sample coordinates (..., 2), column and row."""
        x, y = points[..., 0], points[..., 1]
        return np.stack([(np.arctan2(x, y) + HALF_ANGLE) / _TURN, (np.hypot(x, y) - NEAREST) / self.step], axis=-1)

    def image_grid(self, shape: tuple[int, int], spacing: float) -> np.ndarray:
        """Return the sample coordinates (2, H, W), row and column, of pixel centres, for `image`."""
        rows, columns = np.indices(shape, dtype=np.float32)
        x, y = (columns + 0.5 - shape[1] / 2) * spacing, (rows + 0.5) * spacing
        return np.moveaxis(self.samples(np.stack([x, y], axis=-1))[..., ::-1], -1, 0)

    def image(self, brightness: np.ndarray, grid: np.ndarray, spacing: float) -> np.ndarray:
        """Convert samples (RANGES, BEAMS) to an image (H, W), black outside the sector."""
        smooth = ndimage.gaussian_filter1d(brightness, 0.35 * spacing / self.step, axis=0)
        return ndimage.map_coordinates(smooth, grid, order=1, mode="constant")


def inside_sector(shape: tuple[int, int], spacing: float) -> np.ndarray:
    """Return the mask (H, W), bool, of pixels of `spacing` mm between the outermost beams."""
    rows, columns = np.indices(shape)
    x, y = (columns + 0.5 - shape[1] / 2) * spacing, (rows + 0.5) * spacing
    return np.abs(np.arctan2(x, y)) <= HALF_ANGLE
