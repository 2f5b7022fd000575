"""Shapes and positions of injected errors."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from meddiffusers.data.phantoms.cardiac.labels import LV


def paint(frame: np.ndarray, mask: np.ndarray, label: int) -> np.ndarray:
    """Return a copy of a label map with `label` within the mask."""
    return np.where(mask, label, frame).astype(frame.dtype)


def random_pixel(mask: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Return row and column of a random pixel of the mask.

    Raises:
        ValueError: If the mask is empty.
    """
    pixels = np.argwhere(mask)
    if not len(pixels):
        raise ValueError("A frame has no place for an error; expected a whole heart with background around it.")
    row, column = pixels[rng.integers(len(pixels))]
    return int(row), int(column)


def distance(mask: np.ndarray, spacing: float) -> np.ndarray:
    """Return the distance in mm from each pixel of the mask to the nearest pixel outside; 0 outside."""
    return ndimage.distance_transform_edt(mask, sampling=spacing)


def connected(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Return the connected components of the mask that contain a seed."""
    components, _ = ndimage.label(mask)
    return mask & np.isin(components, np.unique(components[seeds & mask]))


def irregular_disc(
    shape: tuple[int, ...], middle: tuple[int, int], radius: float, spacing: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the mask of an irregular disc around a pixel; its radius in mm varies by about a quarter."""
    rows, columns = np.indices(shape)
    y, x = (rows - middle[0]) * spacing, (columns - middle[1]) * spacing
    angle = np.arctan2(y, x)
    waves = sum(rng.normal(0, 0.1) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4))
    return np.hypot(x, y) <= radius * np.clip(1 + waves, 0.6, 1.4)


def heart_axes(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the position of each pixel along the LV's long axis, upwards, and to the right of it, in pixels."""
    pixels = np.argwhere(frame == LV)
    middle = pixels.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov((pixels - middle).T))
    up = vectors[:, 1] * -np.sign(vectors[0, 1])
    rows, columns = np.indices(frame.shape)
    y, x = rows - middle[0], columns - middle[1]
    return y * up[0] + x * up[1], x * -up[0] + y * up[1]
