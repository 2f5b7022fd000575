"""Shapes and places on label maps that errors are made of."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from meddiffusers.data.phantoms.cardiac.labels import CAVITY


def painted(frame: np.ndarray, where: np.ndarray, label: int) -> np.ndarray:
    """A copy with that label there."""
    return np.where(where, label, frame).astype(frame.dtype)


def pick(where: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Row and column of one of the pixels; ValueError where there is none."""
    places = np.argwhere(where)
    if not len(places):
        raise ValueError("A frame has no place for an error; expected a whole heart with background around it.")
    row, column = places[rng.integers(len(places))]
    return int(row), int(column)


def distance(mask: np.ndarray, spacing: float) -> np.ndarray:
    """mm from each pixel of the mask to the nearest one outside it; 0 outside."""
    return ndimage.distance_transform_edt(mask, sampling=spacing)


def connected(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The parts of the mask that hold a seed."""
    parts, _ = ndimage.label(mask)
    return mask & np.isin(parts, np.unique(parts[seeds & mask]))


def lumpy_disc(
    shape: tuple[int, ...], middle: tuple[int, int], radius: float, spacing: float, rng: np.random.Generator
) -> np.ndarray:
    """A lumpy disc around a pixel, whose radius varies by a quarter or so."""
    rows, columns = np.indices(shape)
    y, x = (rows - middle[0]) * spacing, (columns - middle[1]) * spacing
    angle = np.arctan2(y, x)
    waves = sum(rng.normal(0, 0.1) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4))
    return np.hypot(x, y) <= radius * np.clip(1 + waves, 0.6, 1.4)


def heart_axes(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel's place along the cavity's long axis, towards its upper end, and to the right of it, in pixels."""
    places = np.argwhere(frame == CAVITY)
    middle = places.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov((places - middle).T))
    up = vectors[:, 1] * -np.sign(vectors[0, 1])
    rows, columns = np.indices(frame.shape)
    y, x = rows - middle[0], columns - middle[1]
    return y * up[0] + x * up[1], x * -up[0] + y * up[1]
