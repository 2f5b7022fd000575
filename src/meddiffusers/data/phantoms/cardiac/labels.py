"""Label maps: 0 background, 1 left-ventricular cavity (LV), 2 myocardium (MYO), 3 left atrium (LA)."""

from __future__ import annotations

import numpy as np

from meddiffusers.data.phantoms.cardiac.outlines import Outlines
from meddiffusers.data.phantoms.cardiac.raster import count_cells, fill_polygon

LV, MYO, LA = 1, 2, 3
_FACTOR = 3  # cells per pixel edge; odd, so that two labels never share a pixel equally


def label_maps(lines: Outlines, shape: tuple[int, int], spacing: float) -> np.ndarray:
    """Rasterize outlines; each pixel gets the label of most of its 3×3 cells.

    Args:
        lines: Outlines in T phases. x = 0 is the middle of the image, y = 0 its upper edge.
        shape: `(H, W)` of the label maps.
        spacing: Edge length of a pixel in mm.

    Returns:
        Label maps `(T, H, W)`, uint8.
    """
    frames = zip(lines.endocardium, lines.epicardium, lines.atrium, strict=True)
    return np.stack([_label_map(frame, shape, spacing) for frame in frames])


def _label_map(frame: tuple[np.ndarray, ...], shape: tuple[int, int], spacing: float) -> np.ndarray:
    height, width = shape
    cells = [polygon / spacing * _FACTOR + [width * _FACTOR / 2, 0] for polygon in frame]
    endocardium, epicardium, atrium = (fill_polygon(polygon, height * _FACTOR, width * _FACTOR) for polygon in cells)
    inner, outer, below = (count_cells(mask, _FACTOR) for mask in (endocardium, epicardium, atrium & ~epicardium))
    background = _FACTOR**2 - outer - below
    return np.argmax([background, inner, outer - inner, below], axis=0).astype(np.uint8)
