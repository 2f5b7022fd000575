"""Rows of a data set as arrays of images."""

from __future__ import annotations

import datasets
import numpy as np

from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE


def images_of(rows: datasets.Dataset) -> np.ndarray:
    """(N, C, H, W) float32 in [0, 1] of rows as `data.segmentation_slices` has them."""
    return np.stack(rows.with_format("numpy")["image"]).astype(np.float32) / INTENSITY_SCALE
