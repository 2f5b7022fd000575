"""The square around a heart that a network sees, cut from frames of any size and spacing, and the way back.

A file that published pipelines import from beside them; it is published with each. Labels: 1 cavity, 2 wall.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

PUBLISHED_AS = "meddiffusers_heart_windows_v1"  # file name in a repository; here the same, so that both find it
CAVITY, WALL = 1, 2
SAME = 1e-3  # relative difference of spacings that are one
BEYOND = -1.0  # what a field is outside of the window


@dataclass(frozen=True)
class HeartWindow:
    """`size` × `size` pixels of `edge` mm around `centre`, (row, column) in pixels of frames of `shape` (H, W).

    spacing: mm from row to row and from column to column of the frames.
    """

    shape: tuple[int, int]
    spacing: tuple[float, float]
    centre: tuple[float, float]
    size: int
    edge: float

    @property
    def _scale(self) -> np.ndarray:
        """Pixels of a frame for each pixel of the window, downwards and across; 1 where they are all but the same."""
        scale = self.edge / np.asarray(self.spacing)
        return np.where(np.abs(scale - 1) < SAME, 1.0, scale)

    @property
    def _corner(self) -> np.ndarray:
        """Where the centre of the window's first pixel lies, in pixels of a frame."""
        corner = np.asarray(self.centre) - self._scale * (self.size - 1) / 2
        return np.where(self._scale == 1, np.round(corner), corner)

    def cut(self, labels: np.ndarray) -> np.ndarray:
        """Label maps (T, size, size) of cavity and wall, of label maps (T, H, W); at scale 1 as they are."""
        heart = np.stack([self._cut(np.isin(frame, (CAVITY, WALL))) for frame in labels])
        cavity = np.stack([self._cut(frame == CAVITY) for frame in labels])
        return np.where(cavity & heart, CAVITY, np.where(heart, WALL, 0)).astype(np.uint8)

    def paste(self, fields: np.ndarray) -> np.ndarray:
        """Fields (T, H, W) float32 of fields (T, size, size), linear between their pixels; `BEYOND` outside."""
        return np.stack([self._paste(field) for field in fields])

    def _cut(self, mask: np.ndarray) -> np.ndarray:
        values = mask.astype(np.float32)
        if (self._scale > 1).any():
            values = ndimage.gaussian_filter(values, np.where(self._scale > 1, 0.4 * self._scale, 0))
        return self._moved(values, self._scale, self._corner, (self.size, self.size), 0.0) > 0.5

    def _paste(self, field: np.ndarray) -> np.ndarray:
        return self._moved(field.astype(np.float32), 1 / self._scale, -self._corner / self._scale, self.shape, BEYOND)

    @staticmethod
    def _moved(
        values: np.ndarray, scale: np.ndarray, offset: np.ndarray, shape: tuple[int, int], beyond: float
    ) -> np.ndarray:
        return ndimage.affine_transform(values, scale, offset, shape, order=1, mode="constant", cval=beyond)


def heart_window(labels: np.ndarray, spacing: tuple[float, float], size: int, edge: float) -> HeartWindow:
    """The window around the median of the hearts' middles in label maps (T, H, W).

    Raises:
        ValueError: no frame has a heart.
    """
    hearts = [heart for heart in np.isin(labels, (CAVITY, WALL)) if heart.any()]
    if not hearts:
        raise ValueError("No frame has a cavity (label 1) or a wall (label 2); expected a segmented left ventricle.")
    row, column = np.median([np.argwhere(heart).mean(axis=0) for heart in hearts], axis=0)
    return HeartWindow(labels.shape[1:], spacing, (float(row), float(column)), size, edge)
