"""Label maps of a heart: 0 background, 1 cavity of the left ventricle, 2 its wall, 3 left atrium."""

from __future__ import annotations

import numpy as np

from meddiffusers.data.phantoms.cardiac.outlines import Outlines
from meddiffusers.data.phantoms.cardiac.raster import filled, votes

CAVITY, WALL, ATRIUM = 1, 2, 3
_FACTOR = 3  # odd, so that two labels never share a pixel half and half


def label_maps(lines: Outlines, shape: tuple[int, int], spacing: float) -> np.ndarray:
    """uint8 (F, H, W); x = 0 is the middle of the image, y = 0 its upper edge, a pixel has edges of `spacing` mm.

    A pixel has the label that most of its 3×3 cells have.
    """
    frames = zip(lines.cavity, lines.epicardium, lines.atrium, strict=True)
    return np.stack([_label_map(frame, shape, spacing) for frame in frames])


def _label_map(frame: tuple[np.ndarray, ...], shape: tuple[int, int], spacing: float) -> np.ndarray:
    height, width = shape
    cells = [polygon / spacing * _FACTOR + [width * _FACTOR / 2, 0] for polygon in frame]
    cavity, epicardium, atrium = (filled(polygon, height * _FACTOR, width * _FACTOR) for polygon in cells)
    inner, outer, below = (votes(mask, _FACTOR) for mask in (cavity, epicardium, atrium & ~epicardium))
    background = _FACTOR**2 - outer - below
    return np.argmax([background, inner, outer - inner, below], axis=0).astype(np.uint8)
