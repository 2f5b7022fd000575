"""Rasterization of polygons: which cell centres lie inside."""

from __future__ import annotations

import numpy as np


def fill_polygon(polygon: np.ndarray, height: int, width: int) -> np.ndarray:
    """Fill a polygon by the even–odd rule.

    Each edge flips the parity of all cells to the right of where it crosses the centre line of a row.

    Args:
        polygon: Points `(P, 2)`, x and y in cells. The centre of cell (row, column) is y = row + ½, x = column + ½.
        height: Number of rows.
        width: Number of columns.

    Returns:
        Mask `(height, width)`, uint8, 1 where a cell's centre lies inside.
    """
    x0, y0 = polygon.T
    x1, y1 = np.roll(polygon, -1, axis=0).T
    first, end = (np.clip(np.ceil(y - 0.5), 0, height).astype(int) for y in (np.minimum(y0, y1), np.maximum(y0, y1)))
    crossed = end - first
    edge = np.repeat(np.arange(len(polygon)), crossed)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed) + first[edge]
    x = x0[edge] + (row + 0.5 - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
    column = np.clip(np.ceil(x - 0.5), 0, width).astype(int)
    toggles = np.bincount(row * (width + 1) + column, minlength=height * (width + 1)).astype(np.uint8)
    return np.cumsum(toggles.reshape(height, width + 1)[:, :width], axis=1, dtype=np.uint8) & 1


def count_cells(mask: np.ndarray, factor: int) -> np.ndarray:
    """Count the set cells of each pixel, which has factor² cells: (H, W) from (H·factor, W·factor)."""
    height, width = mask.shape
    rows = mask.reshape(height // factor, factor, width).sum(axis=1, dtype=np.uint8)
    return rows.reshape(height // factor, width // factor, factor).sum(axis=2, dtype=np.uint8)
