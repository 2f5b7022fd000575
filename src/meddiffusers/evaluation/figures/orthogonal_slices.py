"""Orthogonal slices through the middle of volumes, for figures and comparisons."""

from __future__ import annotations

import numpy as np

PLANES = ("sagittal", "coronal", "axial")


def plane_slices(volumes: np.ndarray) -> np.ndarray:
    """Take the middle slices of RAS volumes (B, X, Y, Z) in the order of `PLANES`.

    Returns:
        (B, 3, S, S), upright and centred in a square of the longest edge S.
    """
    size = max(volumes.shape[1:])
    cuts = np.zeros((len(volumes), 3, size, size), volumes.dtype)
    for i, volume in enumerate(volumes):
        for axis in range(3):
            cut = np.take(volume, volume.shape[axis] // 2, axis=axis).T[::-1]
            top, left = ((size - side) // 2 for side in cut.shape)
            cuts[i, axis, top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return cuts
