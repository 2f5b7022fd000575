"""Slices with the borders of masks drawn in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

COLOURS = ((1, 0.25, 0.2), (1, 0.9, 0.2))  # of the first mask and of the second


def outlined(image: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
    """The image (H, W) in grey, (H, W, 3) in [0, 1], with the borders of bool masks in red, then yellow."""
    grey = np.clip(image / max(np.percentile(image, 99.7), 1e-6), 0, 1)
    coloured = np.stack([grey] * 3, axis=-1)
    for mask, colour in zip(masks, COLOURS, strict=False):
        inner = mask.copy()
        inner[1:-1, 1:-1] &= mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
        coloured[mask & ~inner] = colour
    return coloured


def spread_over(marks: np.ndarray, count: int) -> np.ndarray:
    """Numbers of `count` slices, evenly from the first to the last of those (N, H, W) that a mask meets."""
    met = np.flatnonzero(marks.any(axis=(1, 2)))
    return met[np.linspace(0, len(met) - 1, count).round().astype(int)]
