"""The size of the head and the width of the ventricles that give a person the volumes asked for.

Enlarging the whole warp by s multiplies every volume by s³, and what the ventricles gain the tissue around them loses:

    s³ (T + V) = brain + ventricles        T, V volumes of tissue and ventricles of the unfitted brain
    s³ V(w) = ventricles                   V(w) volume with the wall pushed outwards by w mm

so s is known at once, and w by root finding on a coarse set of points.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import brentq

from meddiffusers.data.phantoms.brain.anatomy import TISSUE, VENTRICLES, Sulci, anatomy_at, ventricles_at
from meddiffusers.data.phantoms.brain.demographics import Demographics
from meddiffusers.data.phantoms.brain.smooth_field import Grid, points_of
from meddiffusers.data.phantoms.brain.template import COARSE, Template
from meddiffusers.data.phantoms.brain.warp import CENTRE, Warp, sampled

BRAIN_STEP, BRAIN_HALF = 4.0, np.array([84.0, 108.0, 92.0])  # mm between points, and around the centre that they reach
VENTRICLE_STEP, VENTRICLE_HALF = 2.3, np.array([60.0, 70.0, 70.0])
WIDENINGS = (-5.0, 12.0)  # mm


def fitted(warp: Warp, person: Demographics, sulci: Sulci, template: Template) -> Warp:
    """The warp with the size and widening at which the person's two volumes are met, to about 1 %."""
    brain, ventricles = 1000 * person.brain_volume_ml, 1000 * person.ventricular_volume_ml
    whole = anatomy_at(_around_centre(BRAIN_STEP, BRAIN_HALF), warp, sulci, template)
    amounts = whole.fractions.sum(axis=1, dtype=np.float64) * BRAIN_STEP**3
    scale = (brain + ventricles) / amounts[[*TISSUE, *VENTRICLES]].sum()

    grid = _around_centre(VENTRICLE_STEP, VENTRICLE_HALF)
    places = warp(grid, points_of(grid)).reshape(3, -1)
    places = places[:, sampled(template.distances[:1], places, template.origin, COARSE)[0] < WIDENINGS[1]]

    def excess(widening: float) -> float:
        inside = ventricles_at(replace(warp, widening=widening).widened(places, template), template)
        return float(inside.sum(dtype=np.float64)) * VENTRICLE_STEP**3 * scale - ventricles

    low, high = WIDENINGS
    if excess(low) >= 0 or excess(high) <= 0:
        raise ValueError(
            f"No widening between {low:g} and {high:g} mm gives ventricles of {person.ventricular_volume_ml:g} ml in a "
            f"brain of {person.brain_volume_ml:g} ml. Ask for ventricles that suit it, or take another seed."
        )
    return replace(warp, size=float(np.cbrt(scale)), widening=float(brentq(excess, low, high, xtol=0.03)))


def _around_centre(step: float, half: np.ndarray) -> Grid:
    x, y, z = (np.arange(centre - reach, centre + reach, step) for centre, reach in zip(CENTRE, half, strict=True))
    return x, y, z
