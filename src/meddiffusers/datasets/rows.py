"""Convert the rows of a data set to arrays."""

from __future__ import annotations

import datasets
import numpy as np

from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE


def images_of(rows: datasets.Dataset) -> np.ndarray:
    """Images (B, C, H, W) or volumes (B, C, X, Y, Z) of labelled, captioned or volume rows, float32 in [0, 1]."""
    return np.stack(rows.with_format("numpy")["image"]).astype(np.float32) / INTENSITY_SCALE
