"""Mass effect: displacement of the tissue around a lesion, outward for tumours and inward for cavities."""

from __future__ import annotations

import numpy as np

from meddiffusers.data.phantoms.brain.local_field import LocalField, lattice
from meddiffusers.data.phantoms.brain.smooth_field import Grid, points_of
from meddiffusers.data.phantoms.brain.tissue import Surroundings

_STEEPEST = 0.7  # largest gradient of the displacement in mm per mm: below 1 the map is invertible


def mass_effect(surroundings: Surroundings, centre: np.ndarray, reach: float, strength: float) -> LocalField:
    """Displacement field (three components, mm) of a lesion.

    Its length is strength · ρ · (1 − (ρ/reach)²)² at distance ρ from the centre, and 0 beyond `reach`. It fades towards
    the surface of the brain.

    Args:
        surroundings: tissue at points of the subject.
        centre: (3,) mm.
        reach: mm.
        strength: positive displaces outward, negative inward.
    """
    nodes = lattice(centre, reach, reach / 10)
    points = points_of(nodes)
    offset = points - centre.reshape(3, 1, 1, 1)
    fade = np.clip(1 - (offset**2).sum(axis=0) / reach**2, 0, None) ** 2
    depth = surroundings(points.reshape(3, -1).T).depth.reshape(fade.shape)
    displacement = strength * offset * fade * np.clip(depth / 15, 0, 1)
    slopes = np.stack([np.diff(displacement, axis=axis, append=0.0) for axis in (1, 2, 3)]) / (reach / 10)
    steepest = np.sqrt((slopes**2).sum(axis=(0, 1)).max())
    displacement *= min(1.0, _STEEPEST / max(float(steepest), 1e-6))
    return LocalField(np.array([planes[0] for planes in nodes]), reach / 10, displacement)


def undisplaced(displacement: LocalField | None, points: np.ndarray, nodes: Grid) -> np.ndarray:
    """(N, 3) positions in mm, before displacement, of the tissue at the points (3, X, Y, Z) of a grid."""
    moved = points if displacement is None else points - displacement(nodes)
    return moved.reshape(3, -1).T
