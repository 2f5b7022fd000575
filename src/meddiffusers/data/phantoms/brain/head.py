"""Simplified extracerebral tissue: meninges, skull with marrow, scalp, muscles and eyes."""

from __future__ import annotations

import numpy as np

from meddiffusers.data.phantoms.brain.anatomy import Anatomy
from meddiffusers.data.phantoms.brain.contrasts import HEAD
from meddiffusers.data.phantoms.brain.smooth_field import Grid, SmoothField
from meddiffusers.data.phantoms.brain.template import COARSE, Template
from meddiffusers.data.phantoms.brain.warp import sample_maps

EYES = np.array([33.0, 56.0, -36.0], np.float32)  # mm of the average brain, right eye; the left one is mirrored
EYE_RADIUS = 12.0


def head_fractions(anatomy: Anatomy, grid: Grid, thickness: SmoothField, template: Template) -> np.ndarray:
    """(7, X, Y, Z) float32 fractions in the order of `HEAD`; with the brain they sum to 1 in the head and 0 in air.

    Args:
        anatomy: the brain on the grid.
        grid: mm of the planes along x, y and z.
        thickness: three smooth fields that vary the thickness of skull, scalp and marrow.
        template: the average brain.
    """
    places = anatomy.places
    inner = sample_maps(template.distances[2:3], places.reshape(3, -1), template.origin, COARSE)[0].reshape(
        places.shape[1:]
    )
    outside, (skull, scalp, marrow) = -inner, thickness(grid)
    # Below the brain, muscles of face and neck take the place of the skull.
    base = np.clip((-24 - places[2]) / 12, 0, 1)
    bone, muscle, skin = (6 + 1.2 * skull) * (1 - base), 16 * base, 5.5 + 1.3 * scalp
    layers = {
        "meninges": _between(outside, -99, 1.5) * (1 - base),
        "bone": _between(outside, 1.5, 1.5 + bone),
        "marrow": _between(outside, 3, bone) * np.clip(0.6 + 0.4 * marrow, 0, 1) * (1 - base),
        "scalp": _between(outside, 1.5 + bone + muscle, 1.5 + bone + muscle + skin),
        "muscle": _between(outside, 1.5 + bone, 1.5 + bone + muscle) + base * _between(outside, -99, 1.5),
    }
    layers["bone"] = np.maximum(layers["bone"] - layers["marrow"], 0)
    fractions = np.zeros((len(HEAD), *inner.shape), np.float32)
    for name, fraction in layers.items():
        fractions[list(HEAD).index(name)] = fraction
    _put_eyes(fractions, places)
    return fractions * (1 - np.clip(anatomy.to_grid(anatomy.fractions.sum(axis=0)), 0, 1))


def _between(distance: np.ndarray, low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
    return np.clip(distance - low + 0.5, 0, 1) * np.clip(high - distance + 0.5, 0, 1)


def _put_eyes(fractions: np.ndarray, places: np.ndarray) -> None:
    mirrored = np.stack([np.abs(places[0]), *places[1:]])
    distance = np.sqrt(((mirrored - EYES[:, None, None, None]) ** 2).sum(axis=0))
    socket, eye = np.clip(EYE_RADIUS + 6 - distance, 0, 1), np.clip(EYE_RADIUS - distance, 0, 1)
    fractions *= 1 - socket
    fractions[5] += socket - eye
    fractions[6] += eye
