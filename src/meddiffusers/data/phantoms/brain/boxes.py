"""Crop a grid to the bounding box of a lesion, and paste the result back."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from meddiffusers.data.phantoms.brain.smooth_field import Grid, span
from meddiffusers.data.phantoms.brain.tissue import Tissue

Box = tuple[slice, slice, slice]


def find_box(grid: Grid, low: np.ndarray, high: np.ndarray) -> Box:
    """Index box of the grid between two corners in mm; empty slices if they do not overlap."""
    x, y, z = (span((planes >= first) & (planes <= last)) for planes, first, last in zip(grid, low, high, strict=True))
    return x, y, z


def crop_grid(grid: Grid, box: Box) -> Grid:
    """Planes of the grid within a box."""
    x, y, z = (planes[part] for planes, part in zip(grid, box, strict=True))
    return x, y, z


def crop_tissue(tissue: Tissue, box: Box) -> Tissue:
    """Tissue maps (X, Y, Z) within a box."""
    return Tissue(**{field.name: getattr(tissue, field.name)[box] for field in fields(tissue)})


def shape_of(grid: Grid) -> tuple[int, int, int]:
    """Number of planes along x, y and z."""
    x, y, z = (len(planes) for planes in grid)
    return x, y, z


def paste(part: np.ndarray, box: Box, shape: tuple[int, ...]) -> np.ndarray:
    """Paste the part into an array of zeros."""
    whole = np.zeros(shape, dtype=part.dtype)
    whole[box] = part
    return whole
