"""Mass effect: how far a lesion pushes the tissue around it, or a cavity draws it in."""

from __future__ import annotations

import numpy as np

from meddiffusers.data.phantoms.brain.local_field import LocalField, lattice
from meddiffusers.data.phantoms.brain.smooth_field import Grid, points_of
from meddiffusers.data.phantoms.brain.tissue import Surroundings

_STEEPEST = 0.7  # of the push in mm per mm: below 1 the map has an inverse


def mass_effect(surroundings: Surroundings, centre: np.ndarray, reach: float, strength: float) -> LocalField:
    """A push in mm of three fields: strength·ρ·(1 − (ρ/reach)²)² away from the centre, 0 from `reach` mm on.

    It fades toward the surface of the brain, which the skull holds. Negative strength draws inward.
    """
    nodes = lattice(centre, reach, reach / 10)
    points = points_of(nodes)
    offset = points - centre.reshape(3, 1, 1, 1)
    fade = np.clip(1 - (offset**2).sum(axis=0) / reach**2, 0, None) ** 2
    depth = surroundings(points.reshape(3, -1).T).depth.reshape(fade.shape)
    push = strength * offset * fade * np.clip(depth / 15, 0, 1)
    slopes = np.stack([np.diff(push, axis=axis, append=0.0) for axis in (1, 2, 3)]) / (reach / 10)
    steepest = np.sqrt((slopes**2).sum(axis=(0, 1)).max())
    push *= min(1.0, _STEEPEST / max(float(steepest), 1e-6))
    return LocalField(np.array([planes[0] for planes in nodes]), reach / 10, push)


def pushed(push: LocalField | None, points: np.ndarray, nodes: Grid) -> np.ndarray:
    """(N, 3): the healthy points that now lie at the points (3, X, Y, Z) of a grid."""
    moved = points if push is None else points - push(nodes)
    return moved.reshape(3, -1).T
