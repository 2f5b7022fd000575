"""Square region of interest around the left ventricle: crop it from frames of any size and spacing, and paste it back.

Published pipelines import this file from beside them. It is published with each of these pipelines.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .meddiffusers_cardiac_labels_v1 import LV, MYO

PUBLISHED_AS = "meddiffusers_cardiac_region_v1"  # the file has the same name in a repository
SCALE_TOLERANCE = 1e-3  # relative difference below which two spacings count as equal
OUTSIDE = -1.0  # value of a pasted field outside the region
BLUR_PER_SCALE = 0.4  # standard deviation of the anti-aliasing blur, in pixels of the region


@dataclass(frozen=True)
class LVRegion:
    """Region of interest around the left ventricle, the same in all frames of a sequence.

    Args:
        frame_shape: `(H, W)` of the frames.
        frame_spacing: Distances in mm between rows and between columns of the frames.
        centre: Row and column of the region's centre, in pixels of the frames.
        size: Edge length of the region in its own pixels.
        spacing: Edge length of these pixels in mm.
    """

    frame_shape: tuple[int, int]
    frame_spacing: tuple[float, float]
    centre: tuple[float, float]
    size: int
    spacing: float

    @property
    def _scale(self) -> np.ndarray:
        """Frame pixels per region pixel along rows and columns; exactly 1 where the spacings count as equal."""
        scale = self.spacing / np.asarray(self.frame_spacing)
        return np.where(np.abs(scale - 1) < SCALE_TOLERANCE, 1.0, scale)

    @property
    def _origin(self) -> np.ndarray:
        """Centre of the region's first pixel, in pixels of the frames."""
        origin = np.asarray(self.centre) - self._scale * (self.size - 1) / 2
        return np.where(self._scale == 1, np.round(origin), origin)

    def crop(self, labels: np.ndarray) -> np.ndarray:
        """Crop LV and myocardium from label maps; other labels become background.

        At equal spacings the values are copied without interpolation.

        Args:
            labels: Label maps `(T, H, W)`.

        Returns:
            Label maps `(T, size, size)`, uint8.
        """
        lv_myo = np.stack([self._crop(np.isin(frame, (LV, MYO))) for frame in labels])
        lv = np.stack([self._crop(frame == LV) for frame in labels])
        return np.where(lv & lv_myo, LV, np.where(lv_myo, MYO, 0)).astype(np.uint8)

    def paste(self, fields: np.ndarray) -> np.ndarray:
        """Resample fields of the region to the frames, with linear interpolation.

        Args:
            fields: Fields `(T, size, size)`.

        Returns:
            Fields `(T, H, W)`, float32; -1 outside the region.
        """
        return np.stack([self._paste(field) for field in fields])

    def _crop(self, mask: np.ndarray) -> np.ndarray:
        values = mask.astype(np.float32)
        if (self._scale > 1).any():
            values = ndimage.gaussian_filter(values, np.where(self._scale > 1, BLUR_PER_SCALE * self._scale, 0))
        return _resample(values, self._scale, self._origin, (self.size, self.size), 0.0) > 0.5

    def _paste(self, field: np.ndarray) -> np.ndarray:
        offset = -self._origin / self._scale
        return _resample(field.astype(np.float32), 1 / self._scale, offset, self.frame_shape, OUTSIDE)


def lv_region(labels: np.ndarray, frame_spacing: tuple[float, float], size: int, spacing: float) -> LVRegion:
    """Place the region of interest around the left ventricle.

    Its centre is the median over the frames of the centres of mass of LV and myocardium.

    Args:
        labels: Label maps `(T, H, W)`.
        frame_spacing: Distances in mm between their rows and between their columns.
        size: Edge length of the region in pixels.
        spacing: Edge length of these pixels in mm.

    Raises:
        ValueError: If no frame has an LV or a myocardium.
    """
    masks = [mask for mask in np.isin(labels, (LV, MYO)) if mask.any()]
    if not masks:
        raise ValueError("No frame has an LV (label 1) or a myocardium (label 2); expected a segmented left ventricle.")
    row, column = np.median([np.argwhere(mask).mean(axis=0) for mask in masks], axis=0)
    return LVRegion(labels.shape[1:], frame_spacing, (float(row), float(column)), size, spacing)


def _resample(
    values: np.ndarray, scale: np.ndarray, offset: np.ndarray, shape: tuple[int, int], outside: float
) -> np.ndarray:
    return ndimage.affine_transform(values, scale, offset, shape, order=1, mode="constant", cval=outside)
