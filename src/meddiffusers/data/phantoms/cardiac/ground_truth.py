"""Ground-truth measurements of a heart, from its outlines instead of pixels.

| measurement | meaning | unit |
|---|---|---|
| lv_area | area of the LV | mm² |
| lv_length | distance from the middle of the base to the apex, the farthest point of the LV | mm |
| base_width | distance between the two corners where LV, myocardium and atrium meet | mm |
| orientation | angle of the LV's long principal axis to the vertical, positive if the apex leans right | degrees |
| myo_area | area of the myocardium | mm² |
| epi_x, epi_y | centre of mass of LV and myocardium: right of the image's middle, depth | mm |
| volume | 8·area²/(3π·length), area–length method | ml |
"""

from __future__ import annotations

import numpy as np

from meddiffusers.data.phantoms.cardiac.outlines import Outlines, polygon_area

MEASUREMENTS = ("lv_area", "lv_length", "base_width", "orientation", "myo_area", "epi_x", "epi_y", "volume")


def measure_outlines(lines: Outlines) -> dict[str, np.ndarray]:
    """Measure outlines in T phases; the result holds an array `(T,)` for each of `MEASUREMENTS`."""
    left, right = lines.endocardium[:, 0], lines.endocardium[:, -1]
    middle = (left + right) / 2
    area = polygon_area(lines.endocardium)
    length = np.linalg.norm(lines.endocardium - middle[:, None], axis=-1).max(axis=1)
    centre, _ = _moments(lines.epicardium)
    values = (
        area,
        length,
        np.linalg.norm(right - left, axis=-1),
        _orientation(lines.endocardium),
        polygon_area(lines.epicardium) - area,
        centre[:, 0],
        centre[:, 1],
        8 * area**2 / (3 * np.pi * length) / 1000,
    )
    return dict(zip(MEASUREMENTS, values, strict=True))


def _orientation(polygon: np.ndarray) -> np.ndarray:
    _, spread = _moments(polygon)
    return np.rad2deg(0.5 * np.arctan2(-2 * spread[:, 0, 1], spread[:, 1, 1] - spread[:, 0, 0]))


def _moments(polygon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre of mass (T, 2) and covariance (T, 2, 2) of the enclosed area, by Green's theorem."""
    origin = polygon.mean(axis=1, keepdims=True)  # keeps the sums small, which avoids cancellation
    a = polygon - origin
    b = np.roll(a, -1, axis=1)
    cross = a[..., 0] * b[..., 1] - b[..., 0] * a[..., 1]
    area = cross.sum(axis=1) / 2
    centre = np.einsum("fn,fnk->fk", cross, a + b) / (6 * area[:, None])
    pairs = np.einsum("fni,fnj,fn->fij", a, a, cross) + np.einsum("fni,fnj,fn->fij", b, b, cross)
    mixed = np.einsum("fni,fnj,fn->fij", a, b, cross)
    second = (2 * pairs + mixed + mixed.transpose(0, 2, 1)) / (24 * area[:, None, None])
    return centre + origin[:, 0], second - centre[:, :, None] * centre[:, None, :]
