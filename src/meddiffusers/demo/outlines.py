"""Slices with the outlines of masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

COLOURS = ((1, 0.25, 0.2), (1, 0.9, 0.2))  # first mask: red, second mask: yellow


def outlined(image: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
    """Show an image (H, W) in grey with the outlines of boolean masks (H, W): (H, W, 3) in [0, 1]."""
    grey = np.clip(image / max(np.percentile(image, 99.7), 1e-6), 0, 1)
    coloured = np.stack([grey] * 3, axis=-1)
    for mask, colour in zip(masks, COLOURS, strict=False):
        inner = mask.copy()
        inner[1:-1, 1:-1] &= mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
        coloured[mask & ~inner] = colour
    return coloured


def spread_over(mask: np.ndarray, count: int) -> np.ndarray:
    """Indices of `count` evenly spaced slices among those of a mask (B, H, W) that are not empty."""
    indices = np.flatnonzero(mask.any(axis=(1, 2)))
    return indices[np.linspace(0, len(indices) - 1, count).round().astype(int)]
