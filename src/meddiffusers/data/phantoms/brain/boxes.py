"""The part of a grid that a lesion can touch, and back to the whole."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from meddiffusers.data.phantoms.brain.smooth_field import Grid, span
from meddiffusers.data.phantoms.brain.tissue import Tissue

Box = tuple[slice, slice, slice]


def within(grid: Grid, low: np.ndarray, high: np.ndarray) -> Box:
    """The part of a grid between two corners in mm; empty slices where they do not meet."""
    x, y, z = (span((planes >= first) & (planes <= last)) for planes, first, last in zip(grid, low, high, strict=True))
    return x, y, z


def cut(grid: Grid, box: Box) -> Grid:
    """The planes of one part of a grid."""
    x, y, z = (planes[part] for planes, part in zip(grid, box, strict=True))
    return x, y, z


def cut_tissue(tissue: Tissue, box: Box) -> Tissue:
    """The tissue (X, Y, Z) of one part of its grid."""
    return Tissue(**{field.name: getattr(tissue, field.name)[box] for field in fields(tissue)})


def shape_of(grid: Grid) -> tuple[int, int, int]:
    x, y, z = (len(planes) for planes in grid)
    return x, y, z


def pasted(part: np.ndarray, box: Box, shape: tuple[int, ...]) -> np.ndarray:
    """The part in a grid of zeros."""
    whole = np.zeros(shape, dtype=part.dtype)
    whole[box] = part
    return whole
