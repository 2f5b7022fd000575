"""The true measurements of a heart, from its outlines and not from pixels.

lv_area        area of the cavity                                                                        mm²
lv_length      middle of the base to the apex, the farthest point of the cavity                          mm
base_width     distance of the two corners where cavity, wall and atrium meet                            mm
orientation    long principal axis of the cavity to the vertical, positive where the apex leans right    degrees
myo_area       area of the wall                                                                          mm²
epi_x, epi_y   centre of mass of cavity and wall: right of the image's middle, depth                   mm
volume         8·area²/(3π·length), area–length method                                                   ml
"""

from __future__ import annotations

import numpy as np

from meddiffusers.data.phantoms.cardiac.outlines import Outlines, polygon_area

TRUTH = ("lv_area", "lv_length", "base_width", "orientation", "myo_area", "epi_x", "epi_y", "volume")


def measure_outlines(lines: Outlines) -> dict[str, np.ndarray]:
    """The measurements of `TRUTH`, each (F,), one value for each phase."""
    left, right = lines.cavity[:, 0], lines.cavity[:, -1]
    middle = (left + right) / 2
    area = polygon_area(lines.cavity)
    length = np.linalg.norm(lines.cavity - middle[:, None], axis=-1).max(axis=1)
    centre, _ = _moments(lines.epicardium)
    values = (
        area,
        length,
        np.linalg.norm(right - left, axis=-1),
        _orientation(lines.cavity),
        polygon_area(lines.epicardium) - area,
        centre[:, 0],
        centre[:, 1],
        8 * area**2 / (3 * np.pi * length) / 1000,
    )
    return dict(zip(TRUTH, values, strict=True))


def _orientation(polygon: np.ndarray) -> np.ndarray:
    _, spread = _moments(polygon)
    return np.rad2deg(0.5 * np.arctan2(-2 * spread[:, 0, 1], spread[:, 1, 1] - spread[:, 0, 0]))


def _moments(polygon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre of mass (F, 2) and covariance (F, 2, 2) of the area, by Green's theorem."""
    origin = polygon.mean(axis=1, keepdims=True)  # keeps the sums small, and so exact
    a = polygon - origin
    b = np.roll(a, -1, axis=1)
    cross = a[..., 0] * b[..., 1] - b[..., 0] * a[..., 1]
    area = cross.sum(axis=1) / 2
    centre = np.einsum("fn,fnk->fk", cross, a + b) / (6 * area[:, None])
    pairs = np.einsum("fni,fnj,fn->fij", a, a, cross) + np.einsum("fni,fnj,fn->fij", b, b, cross)
    mixed = np.einsum("fni,fnj,fn->fij", a, b, cross)
    second = (2 * pairs + mixed + mixed.transpose(0, 2, 1)) / (24 * area[:, None, None])
    return centre + origin[:, 0], second - centre[:, :, None] * centre[:, None, :]
