"""Closed outlines of a beating heart in mm, independent of pixels.

In the axes of the heart, t points right, v points from the middle of the mitral plane to the apex, and u = v/L runs
from 0 to 1. The LV is the area between t = m(u) − W/2·q₀(u) and m(u) + W/2·q₁(u), with

    q(u) = (1 − uⁿ)^½ · (1 − taper·(1 − u)³) · b(u)   one exponent n for each side; b are the bumps of an aneurysm
    m(u) = bend·sin(πu) + obliquity·L·u               bends the axis and tilts the mitral plane; both keep the area

L follows the contraction. W follows from the volume V = 8A²/(3πL) (area–length method). The wall thickness follows from
the area of the myocardium, which hardly changes over the cycle, so that walls thicken in systole. The apex is almost at
rest. The mitral plane descends towards it and elongates the atrium, whose far end is at rest too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from meddiffusers.data.phantoms.cardiac.heart import Bump, Heart

_STEPS = 100  # points along one side of an outline
_CAP = 12  # points around the rounded base of a wall
_HINGE = 7  # index of the point where the atrial wall begins
_U = 1 - (1 - np.linspace(0, 1, _STEPS)) ** 2  # denser towards the apex, where the curvature is high
_UP_AND_DOWN = np.concatenate([_U, _U[-2::-1]])
_IS_LEFT = np.arange(2 * _STEPS - 1) < _STEPS


@dataclass(frozen=True, eq=False)
class Outlines:
    """Outlines in T phases, as polygons `(T, P, 2)` of x and y in mm, each closed by its last edge.

    Args:
        endocardium: Border of the LV, from the left corner of its base over the apex to the right corner.
        epicardium: Outer border of the myocardium; encloses LV and myocardium.
        atrium: Border of the left atrium, from the left corner of the ventricle's base around to the right corner.
    """

    endocardium: np.ndarray
    epicardium: np.ndarray
    atrium: np.ndarray


def outlines(heart: Heart, phases: np.ndarray) -> Outlines:
    """Compute the outlines of a heart at phases `(T,)`, in fractions of a cycle from end diastole."""
    contraction = heart.cycle.contraction(phases)
    endocardium = _endocardium(heart, contraction)
    epicardium = _epicardium(heart, endocardium, contraction)
    place = _Placement(heart, contraction)
    endocardium, epicardium = place(endocardium), place(epicardium)
    return Outlines(endocardium, epicardium, _atrium(heart, endocardium, epicardium, contraction))


def polygon_area(polygon: np.ndarray) -> np.ndarray:
    """Compute the areas (...,) of simple polygons (..., P, 2) by the shoelace formula."""
    x, y = polygon[..., 0], polygon[..., 1]
    return abs((x * np.roll(y, -1, axis=-1) - np.roll(x, -1, axis=-1) * y).sum(axis=-1)) / 2


def _lengths(heart: Heart, contraction: np.ndarray) -> np.ndarray:
    return heart.length * (1 - heart.shortening * contraction)


def _endocardium(heart: Heart, contraction: np.ndarray) -> np.ndarray:
    axis = _lengths(heart, contraction)[:, None] / np.hypot(1, heart.obliquity)
    shape = _profile(heart, contraction)
    area = heart.width * heart.length / np.hypot(1, heart.obliquity) * _fullness(heart)
    # V is proportional to A²/L
    areas = area * np.sqrt((1 - heart.ejection_fraction * contraction) * (1 - heart.shortening * contraction))[:, None]
    width = areas / (axis * _mean(shape))
    middle = heart.bend * np.sin(np.pi * _UP_AND_DOWN) + heart.obliquity * axis * _UP_AND_DOWN
    side = np.where(_IS_LEFT, -1, 1)
    return np.stack([middle + side * width / 2 * shape, axis * _UP_AND_DOWN], axis=-1)


def _fullness(heart: Heart) -> float:
    """Area over length and largest width at end diastole."""
    shape = _profile(heart, np.zeros(1))
    return float(_mean(shape)[0, 0] / ((shape + shape[:, ::-1]) / 2).max())


def _profile(heart: Heart, contraction: np.ndarray) -> np.ndarray:
    """q (T, P) of both sides; the mitral annulus narrows less in systole than the middle of the LV."""
    exponent = np.where(_IS_LEFT, *heart.roundness)
    taper = heart.taper * (1 - 0.6 * contraction[:, None])
    profile = np.sqrt(1 - _UP_AND_DOWN**exponent) * (1 - taper * (1 - _UP_AND_DOWN) ** 3)
    return profile * _change(heart.cavity_bumps)


def _change(bumps: Sequence[Bump]) -> np.ndarray:
    """Product (P,) of the relative changes along the outline."""
    s = np.where(_IS_LEFT, -1, 1) * (1 - _UP_AND_DOWN)
    return np.prod([np.ones_like(s), *(1 + b.size * np.exp(-(((s - b.place) / b.extent) ** 2)) for b in bumps)], axis=0)


def _mean(profile: np.ndarray) -> np.ndarray:
    """∫ (q₀ + q₁)/2 du, (T, 1): area of the LV over W·L."""
    return np.trapezoid(profile * np.where(_IS_LEFT, 1, -1), _UP_AND_DOWN, axis=1)[:, None] / 2


def _epicardium(heart: Heart, endocardium: np.ndarray, contraction: np.ndarray) -> np.ndarray:
    """Offset the endocardium so that the myocardium has its end-diastolic area, reduced by the compaction."""
    relative = np.where(_IS_LEFT, heart.septal, 2 - heart.septal) * (1 - (1 - heart.apical) * _UP_AND_DOWN**3)
    relative = relative * _change(heart.wall_bumps)
    inner = polygon_area(endocardium)
    # The area within an offset along fixed normals is exactly quadratic in the distance: two values determine it.
    five, ten = (polygon_area(_offset(endocardium, thickness * relative)) - inner for thickness in (5.0, 10.0))
    square = (ten - 2 * five) / 50
    slope = five / 5 - 5 * square
    relaxed = _endocardium(heart, np.zeros(1))
    target = polygon_area(_offset(relaxed, heart.wall_thickness * relative)) - polygon_area(relaxed)
    target = target * (1 - heart.compaction * contraction)
    thickness = (np.sqrt(slope**2 + 4 * square * target) - slope) / (2 * square)
    return _offset(endocardium, thickness[:, None] * relative)


def _offset(endocardium: np.ndarray, thickness: np.ndarray) -> np.ndarray:
    """Offset outlines outwards by a thickness, with a half ellipse around the base of each wall."""
    tangent = np.gradient(endocardium, axis=1)
    tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True)
    outward = np.stack([-tangent[..., 1], tangent[..., 0]], axis=-1)
    thickness = np.broadcast_to(thickness, endocardium.shape[:2])[..., None]
    angle = np.linspace(0, np.pi, _CAP, endpoint=False)[None, :, None]

    def cap(corner: int, downward: int) -> np.ndarray:
        half = thickness[:, corner, None] / 2
        along, across = downward * tangent[:, corner, None], outward[:, corner, None]
        return endocardium[:, corner, None] + half * ((1 - np.cos(angle)) * across + 0.6 * np.sin(angle) * along)

    return np.concatenate([cap(0, -1), endocardium + thickness * outward, cap(-1, 1)[:, ::-1]], axis=1)


class _Placement:
    """Transform from the axes of the heart to those of the image, by position of the apex and orientation."""

    def __init__(self, heart: Heart, contraction: np.ndarray) -> None:
        orientation = np.deg2rad(heart.orientation + heart.swing * contraction) - np.arctan(heart.obliquity)
        self.right = np.stack([np.cos(orientation), np.sin(orientation)], axis=-1)[:, None]
        self.up = np.stack([np.sin(orientation), -np.cos(orientation)], axis=-1)[:, None]
        self.target = (np.array(heart.apex) + contraction[:, None] * heart.drift)[:, None]
        axis = _lengths(heart, contraction)[:, None, None] / np.hypot(1, heart.obliquity)
        self.apex = self.right * heart.obliquity * axis + self.up * axis

    def __call__(self, points: np.ndarray) -> np.ndarray:
        return self.target + points[..., :1] * self.right + points[..., 1:] * self.up - self.apex


def _atrium(heart: Heart, endocardium: np.ndarray, epicardium: np.ndarray, contraction: np.ndarray) -> np.ndarray:
    """Outline from the bases of both walls around the far end, which is at rest; the myocardium overlaps it."""
    left, right = epicardium[:, _HINGE, None], epicardium[:, -1 - _HINGE, None]
    middle, across = (left + right) / 2, (right - left) / 2
    orientation, atrium_orientation = np.deg2rad([heart.orientation, heart.orientation + heart.atrium_orientation])
    far_end = heart.apex + heart.length * _down(orientation) + heart.atrium[0] * _down(atrium_orientation)
    depth = _UP_AND_DOWN[:, None]
    neck = np.linalg.norm(across, axis=-1, keepdims=True)
    belly = heart.atrium[1] / 2 * (1 + 0.10 * contraction[:, None, None])
    half = neck + (belly - neck) * np.sin(np.pi / 2 * np.clip(depth / 0.6, 0, 1)) ** 2
    half = half * np.sqrt(1 - depth**3) * np.where(_IS_LEFT, -1, 1)[:, None]
    around = middle + half * across / neck + depth * (far_end - middle)
    return np.concatenate([endocardium[:, :1], around, endocardium[:, -1:]], axis=1)


def _down(orientation: float) -> np.ndarray:
    return np.array([-np.sin(orientation), np.cos(orientation)])
