"""Volumes as images to look at and to compare: the slices through their middle."""

from __future__ import annotations

import numpy as np

PLANES = ("sagittal", "coronal", "axial")


def plane_slices(volumes: np.ndarray) -> np.ndarray:
    """(N, 3, S, S) of volumes (N, X, Y, Z), RAS: the slices of `PLANES` through the middle, upright, in a square."""
    size = max(volumes.shape[1:])
    cuts = np.zeros((len(volumes), 3, size, size), volumes.dtype)
    for number, volume in enumerate(volumes):
        for axis in range(3):
            cut = np.take(volume, volume.shape[axis] // 2, axis=axis).T[::-1]
            top, left = ((size - side) // 2 for side in cut.shape)
            cuts[number, axis, top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return cuts
