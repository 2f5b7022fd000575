"""A third generator of beating hearts, the simplest: half an ellipse within half an ellipse, which contracts.

No training, fitting or tuning may import it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

LV, MYO = 1, 2
ANGLES = 180  # directions from the middle of the base, in which the borders jitter


@dataclass(frozen=True)
class EllipseHeart:
    """One heart; lengths in mm at end diastole, the tilt in degrees."""

    width: float
    wall: float
    length: float = 85.0
    ejection_fraction: float = 0.6
    tilt: float = 0.0

    def labels(
        self,
        frames: int,
        half_cycle: bool = False,
        jitter: float = 0.0,
        seed: int = 0,
        shape: tuple[int, int] = (160, 160),
        spacing: float = 1.0,
    ) -> np.ndarray:
        """Label maps `(T, H, W)`, uint8: 1 cavity, 2 myocardium; both borders jitter by `jitter` mm."""
        phases = np.linspace(0, 0.5 if half_cycle else 1, frames)
        contraction = (1 - np.cos(2 * np.pi * phases)) / 2
        noise = np.random.default_rng(seed).standard_normal((2, frames, ANGLES))
        noise = gaussian_filter1d(noise, 5, axis=2, mode="nearest")
        noise *= jitter / noise.std()
        radius, direction = self._polar(shape, spacing)
        maps = []
        for c, inner, outer in zip(contraction, *noise, strict=True):
            length = self.length * (1 - 0.15 * c)
            half = self.width / 2 * np.sqrt((1 - self.ejection_fraction * c) * self.length / length)
            wall = self.wall * (1 + 0.3 * c)
            lv = radius <= _ellipse(direction, half, length) + _at(inner, direction)
            heart = radius <= _ellipse(direction, half + wall, length + wall) + _at(outer, direction)
            above = direction > 0
            maps.append(np.where(above & lv, LV, np.where(above & (heart | lv), MYO, 0)).astype(np.uint8))
        return np.stack(maps)

    def _polar(self, shape: tuple[int, int], spacing: float) -> tuple[np.ndarray, np.ndarray]:
        """Distance in mm from the middle of the base, and direction, 0 to π above the base."""
        tilt = np.deg2rad(self.tilt)
        rows, columns = np.indices(shape)
        up, right = -(rows - (shape[0] - 1) / 2) * spacing, (columns - (shape[1] - 1) / 2) * spacing
        along = up * np.cos(tilt) + right * np.sin(tilt) + self.length / 2
        across = right * np.cos(tilt) - up * np.sin(tilt)
        return np.hypot(along, across), np.arctan2(along, across)


def _ellipse(direction: np.ndarray, across: float, along: float) -> np.ndarray:
    """Distance from the centre to the border of an ellipse in a direction."""
    return across * along / np.hypot(along * np.cos(direction), across * np.sin(direction))


def _at(noise: np.ndarray, direction: np.ndarray) -> np.ndarray:
    return np.interp(direction, np.linspace(0, np.pi, ANGLES), noise)
