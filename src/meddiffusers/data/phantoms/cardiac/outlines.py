"""The closed outlines of a beating heart, in mm and without pixels.

In the heart's own axes t points to the right and v from the middle of the mitral plane to the apex, u = v/L runs from 0
to 1. The cavity is the area between t = m(u) − W/2·q₀(u) and m(u) + W/2·q₁(u), with

    q(u) = (1 − uⁿ)^½ · (1 − taper·(1 − u)³)          one exponent n for each side
    m(u) = bend·sin(πu) + obliquity·L·u               bends the axis and tilts the mitral plane; both keep the area

L follows the contraction, W follows from the volume V = 8A²/(3πL) (area–length method), and the wall's thickness from
its area, which hardly changes over a beat: so walls thicken as the ventricle empties. The apex all but rests, and the
mitral plane descends towards it, drawing out the atrium, whose far end rests as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from meddiffusers.data.phantoms.cardiac.heart import Heart

_STEPS = 100  # points along one side of an outline
_CAP = 12  # points around the rounded end of a wall
_HINGE = 7  # the one of them from which the wall of the atrium springs, just outside of the tip
_U = 1 - (1 - np.linspace(0, 1, _STEPS)) ** 2  # denser towards the apex, where the outline turns
_UP_AND_DOWN = np.concatenate([_U, _U[-2::-1]])
_IS_LEFT = np.arange(2 * _STEPS - 1) < _STEPS


@dataclass(frozen=True, eq=False)
class Outlines:
    """Polygons (F, points, 2) of x and y in mm, one for each of F phases, each closed by its last edge.

    cavity: of the left ventricle, from the left corner of its base over the apex to the right one.
    epicardium: outer border of the wall; holds the cavity too.
    atrium: of the left atrium, from the left corner of the ventricle's base around to the right one.
    """

    cavity: np.ndarray
    epicardium: np.ndarray
    atrium: np.ndarray


def outlines(heart: Heart, phases: np.ndarray) -> Outlines:
    """The heart at those phases, (F,), in fractions of a beat from end diastole."""
    contraction = heart.cycle.contraction(phases)
    cavity = _cavity(heart, contraction)
    epicardium = _epicardium(heart, cavity, contraction)
    place = _Placement(heart, contraction)
    cavity, epicardium = place(cavity), place(epicardium)
    return Outlines(cavity, epicardium, _atrium(heart, cavity, epicardium, contraction))


def polygon_area(polygon: np.ndarray) -> np.ndarray:
    """Area (...,) of simple polygons (..., points, 2), by the shoelace formula."""
    x, y = polygon[..., 0], polygon[..., 1]
    return abs((x * np.roll(y, -1, axis=-1) - np.roll(x, -1, axis=-1) * y).sum(axis=-1)) / 2


def _lengths(heart: Heart, contraction: np.ndarray) -> np.ndarray:
    return heart.length * (1 - heart.shortening * contraction)


def _cavity(heart: Heart, contraction: np.ndarray) -> np.ndarray:
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
    """Area over length and greatest width at end diastole."""
    shape = _profile(heart, np.zeros(1))
    return float(_mean(shape)[0, 0] / ((shape + shape[:, ::-1]) / 2).max())


def _profile(heart: Heart, contraction: np.ndarray) -> np.ndarray:
    """q (F, points) of both sides; the annulus narrows less in systole than the middle does."""
    exponent = np.where(_IS_LEFT, *heart.roundness)
    taper = heart.taper * (1 - 0.6 * contraction[:, None])
    return np.sqrt(1 - _UP_AND_DOWN**exponent) * (1 - taper * (1 - _UP_AND_DOWN) ** 3)


def _mean(profile: np.ndarray) -> np.ndarray:
    """∫ (q₀ + q₁)/2 du, (F, 1): the cavity's area over W·L."""
    return np.trapezoid(profile * np.where(_IS_LEFT, 1, -1), _UP_AND_DOWN, axis=1)[:, None] / 2


def _epicardium(heart: Heart, cavity: np.ndarray, contraction: np.ndarray) -> np.ndarray:
    """The border at such a distance that the wall's area is what it was at end diastole, less the compaction."""
    relative = np.where(_IS_LEFT, heart.septal, 2 - heart.septal) * (1 - (1 - heart.apical) * _UP_AND_DOWN**3)
    inner = polygon_area(cavity)
    # An offset along fixed normals encloses an area that is exactly quadratic in the distance: two values give it.
    five, ten = (polygon_area(_offset(cavity, thickness * relative)) - inner for thickness in (5.0, 10.0))
    square = (ten - 2 * five) / 50
    slope = five / 5 - 5 * square
    relaxed = _cavity(heart, np.zeros(1))
    wanted = polygon_area(_offset(relaxed, heart.wall * relative)) - polygon_area(relaxed)
    wanted = wanted * (1 - heart.compaction * contraction)
    thickness = (np.sqrt(slope**2 + 4 * square * wanted) - slope) / (2 * square)
    return _offset(cavity, thickness[:, None] * relative)


def _offset(cavity: np.ndarray, thickness: np.ndarray) -> np.ndarray:
    """Outlines outside of the cavity by that much, with a half ellipse around the end of each wall."""
    tangent = np.gradient(cavity, axis=1)
    tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True)
    outward = np.stack([-tangent[..., 1], tangent[..., 0]], axis=-1)
    thickness = np.broadcast_to(thickness, cavity.shape[:2])[..., None]
    angle = np.linspace(0, np.pi, _CAP, endpoint=False)[None, :, None]

    def cap(corner: int, downward: int) -> np.ndarray:
        half = thickness[:, corner, None] / 2
        along, across = downward * tangent[:, corner, None], outward[:, corner, None]
        return cavity[:, corner, None] + half * ((1 - np.cos(angle)) * across + 0.6 * np.sin(angle) * along)

    return np.concatenate([cap(0, -1), cavity + thickness * outward, cap(-1, 1)[:, ::-1]], axis=1)


class _Placement:
    """From the heart's axes to the image's, so that the apex and the lean of the axis are as they should be."""

    def __init__(self, heart: Heart, contraction: np.ndarray) -> None:
        lean = np.deg2rad(heart.orientation + heart.swing * contraction) - np.arctan(heart.obliquity)
        self.right = np.stack([np.cos(lean), np.sin(lean)], axis=-1)[:, None]
        self.up = np.stack([np.sin(lean), -np.cos(lean)], axis=-1)[:, None]
        self.target = (np.array(heart.apex) + contraction[:, None] * heart.drift)[:, None]
        axis = _lengths(heart, contraction)[:, None, None] / np.hypot(1, heart.obliquity)
        self.apex = self.right * heart.obliquity * axis + self.up * axis

    def __call__(self, points: np.ndarray) -> np.ndarray:
        return self.target + points[..., :1] * self.right + points[..., 1:] * self.up - self.apex


def _atrium(heart: Heart, cavity: np.ndarray, epicardium: np.ndarray, contraction: np.ndarray) -> np.ndarray:
    """From the ends of both walls around to the resting far end; the wall lies over it."""
    left, right = epicardium[:, _HINGE, None], epicardium[:, -1 - _HINGE, None]
    middle, across = (left + right) / 2, (right - left) / 2
    lean, atrium_lean = np.deg2rad([heart.orientation, heart.orientation + heart.atrium_lean])
    far_end = heart.apex + heart.length * _down(lean) + heart.atrium[0] * _down(atrium_lean)
    depth = _UP_AND_DOWN[:, None]
    neck = np.linalg.norm(across, axis=-1, keepdims=True)
    belly = heart.atrium[1] / 2 * (1 + 0.10 * contraction[:, None, None])
    half = neck + (belly - neck) * np.sin(np.pi / 2 * np.clip(depth / 0.6, 0, 1)) ** 2
    half = half * np.sqrt(1 - depth**3) * np.where(_IS_LEFT, -1, 1)[:, None]
    around = middle + half * across / neck + depth * (far_end - middle)
    return np.concatenate([cavity[:, :1], around, cavity[:, -1:]], axis=1)


def _down(lean: float) -> np.ndarray:
    return np.array([-np.sin(lean), np.cos(lean)])
