"""Whether a label map of the left ventricle can be one: 1 cavity, 2 wall, all else outside (Painchaud et al. 2022).

A file of plain functions that published pipelines import from beside them; it is published with each.

hole_lv          something else inside the cavity
hole_wall        something else inside the wall
hole_heart       something else inside cavity and wall together, as between them
parts_lv         the cavity is in several parts, or there is none
parts_wall       the wall is in several parts, or there is none
open_side        the cavity meets the outside elsewhere than along one straight base
wide_cavity      the cavity is wider than so many walls are thick
thin_wall        somewhere the wall is thinner than such a part of its usual thickness

The first five say nothing of how hearts look. The limits of the others lie a tenth beyond the extremes of 540 clean
phantoms, 1.01, 4.7 and .23; the paper has 4.15 for the width.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

PUBLISHED_AS = "meddiffusers_heart_validity_v1"  # file name in a repository; here the same, so that both find it
CAVITY, WALL = 1, 2
ISSUES = (
    "hole_lv",
    "hole_wall",
    "hole_heart",
    "parts_lv",
    "parts_wall",
    "open_side",
    "wide_cavity",
    "thin_wall",
)
OPEN, WIDE, THIN = 1.1, 5.2, 0.2
BLUR, MARGIN = 1.0, 5  # pixels
_CORNERS = np.ones((3, 3), bool)  # parts that touch at a corner are one; holes that do are two


def heart_issues(labels: np.ndarray) -> np.ndarray:
    """(N, 8) bool in the order of `ISSUES`: what is wrong with each of the label maps (N, H, W)."""
    return np.array([_issues(frame[_around(frame)]) for frame in labels], bool).reshape(len(labels), len(ISSUES))


def tidied(frame: np.ndarray) -> np.ndarray:
    """A label map (H, W) with the largest part of cavity and of wall alone, and no holes; other labels stay.

    What is taken away becomes what surrounds it.
    """
    result, around = frame.copy(), _around(frame)
    result[around] = _tidied(frame[around])
    return result


def _around(frame: np.ndarray) -> tuple[slice, slice]:
    """Where the heart lies, with a margin in which its surroundings hang together."""
    heart = (frame == CAVITY) | (frame == WALL)
    if not heart.any():
        return slice(0, 1), slice(0, 1)
    sides = [np.flatnonzero(heart.any(axis=axis)) for axis in (1, 0)]
    return tuple(slice(max(0, side[0] - MARGIN), side[-1] + MARGIN + 1) for side in sides)  # type: ignore[return-value]


def _tidied(frame: np.ndarray) -> np.ndarray:
    cavity, wall = _largest(frame == CAVITY), _largest(frame == WALL)
    loose = ((frame == CAVITY) & ~cavity) | ((frame == WALL) & ~wall)
    result = np.where(loose, 0, frame)
    cavity = ndimage.binary_fill_holes(cavity)
    result[cavity] = CAVITY
    wall = (result == WALL) | (ndimage.binary_fill_holes(result == WALL) & ~cavity)
    result[wall] = WALL
    between = ndimage.binary_fill_holes(cavity | wall) & ~(cavity | wall)
    result[between] = WALL
    return result


def _issues(frame: np.ndarray) -> list[bool]:
    cavity, wall = frame == CAVITY, frame == WALL
    heart = cavity | wall
    holes = [bool((ndimage.binary_fill_holes(mask) & ~mask).any()) for mask in (cavity, wall, heart)]
    # The wall of a closed ring holds the cavity, which is not a hole in it.
    holes[1] = bool((ndimage.binary_fill_holes(wall) & ~heart).any()) or _inside(cavity, wall)
    parts = [ndimage.label(mask, _CORNERS)[1] != 1 for mask in (cavity, wall)]
    if not cavity.any() or not wall.any():
        return [*holes, *parts, True, True, True]
    thickness = _thickness(cavity, wall)
    usual = float(np.median(thickness))
    return [
        *holes,
        *parts,
        _openness(cavity, ~heart) > OPEN,
        _width(cavity) > WIDE * usual,
        float(np.percentile(thickness, 2)) < THIN * usual,
    ]


def _largest(mask: np.ndarray) -> np.ndarray:
    parts, count = ndimage.label(mask, _CORNERS)
    return mask if count < 2 else parts == np.bincount(parts.ravel())[1:].argmax() + 1


def _inside(cavity: np.ndarray, wall: np.ndarray) -> bool:
    """Whether a part of the cavity that is not its largest is surrounded by wall."""
    return bool((ndimage.binary_fill_holes(wall) & cavity & ~_largest(cavity)).any())


def _thickness(cavity: np.ndarray, wall: np.ndarray) -> np.ndarray:
    """Distances to the cavity of the wall's outer border, pixels; of the whole wall where it has no outer border."""
    outside = ~(cavity | wall)
    rim = wall & ndimage.binary_dilation(outside)
    distance = ndimage.distance_transform_edt(~cavity)
    return distance[rim if rim.any() else wall]


def _width(cavity: np.ndarray) -> float:
    """Twice the largest distance of a place in the cavity to its border, pixels."""
    return 2 * float(ndimage.distance_transform_edt(cavity).max())


def _openness(cavity: np.ndarray, outside: np.ndarray) -> float:
    """Length of the border of cavity and outside over that of the straight line it amounts to; 1 for a straight base.

    The normals of a closed border add up to nothing, those of a straight one to its length.
    """
    c, o = (ndimage.gaussian_filter(mask.astype(np.float32), BLUR) for mask in (cavity, outside))
    down, across = (c * np.gradient(o, axis=axis) - o * np.gradient(c, axis=axis) for axis in (0, 1))
    net = float(np.hypot(down.sum(), across.sum()))
    return float(np.hypot(down, across).sum()) / max(net, 1e-6)
