"""Jitter of segmented borders: the small errors that a segmentation network makes anew in every frame."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from meddiffusers.pipelines.meddiffusers_cardiac_labels_v1 import LV, MYO
from meddiffusers.pipelines.meddiffusers_cardiac_masks_v1 import fields_to_labels, signed_distance

CORRELATION = 7.0  # mm along the borders


def jitter_borders(labels: np.ndarray, spacing: float, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Displace the borders of the LV and of LV and myocardium along their normals, each in each frame by itself.

    Args:
        labels: Label maps `(T, H, W)`; other labels than LV and myocardium become background.
        spacing: Edge length of a pixel in mm.
        deviation: Standard deviation of the displacement in mm.
        rng: Generator.

    Returns:
        Label maps `(T, H, W)`, uint8.
    """
    distances = (signed_distance(mask, (spacing, spacing)) for mask in (labels == LV, np.isin(labels, (LV, MYO))))
    lv, lv_myo = (distance + deviation * _smooth_noise(labels.shape, spacing, rng) for distance in distances)
    return fields_to_labels(lv, lv_myo)


def _smooth_noise(shape: tuple[int, ...], spacing: float, rng: np.random.Generator) -> np.ndarray:
    """Noise (T, H, W) of unit deviation, correlated within a frame."""
    step = CORRELATION / 3 / spacing  # pixels between the points of a coarser grid
    coarse = [int(np.ceil(side / step)) + 3 for side in shape[1:]]
    noise = ndimage.gaussian_filter(rng.standard_normal((shape[0], *coarse)), (0, 1.5, 1.5), mode="wrap")
    scale = [1.0, 1 / step, 1 / step]
    noise = ndimage.affine_transform(noise / noise.std(), scale, [0, 1, 1], shape, order=1, mode="nearest")
    return noise.astype(np.float32)
