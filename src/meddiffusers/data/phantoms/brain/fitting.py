"""Fit head size and ventricular widening to the target brain and ventricular volumes.

Scaling the warp by s multiplies every volume by s³, and widening the ventricles takes volume from the tissue:

    s³ (T + V) = brain + ventricles        T, V volumes of tissue and ventricles before fitting
    s³ V(w) = ventricles                   V(w) volume with the wall displaced outwards by w mm

so s has a closed form, and w is found by root finding on a coarse grid.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import brentq

from meddiffusers.data.phantoms.brain.anatomy import TISSUE, VENTRICLES, Sulci, anatomy_at, ventricles_at
from meddiffusers.data.phantoms.brain.demographics import Demographics
from meddiffusers.data.phantoms.brain.smooth_field import Grid, points_of
from meddiffusers.data.phantoms.brain.template import COARSE, Template
from meddiffusers.data.phantoms.brain.warp import CENTRE, Warp, sample_maps

BRAIN_STEP, BRAIN_HALF = 4.0, np.array([84.0, 108.0, 92.0])  # mm: spacing and half extent of the grid
VENTRICLE_STEP, VENTRICLE_HALF = 2.3, np.array([60.0, 70.0, 70.0])
WIDENINGS = (-5.0, 12.0)  # mm


def fit_volumes(warp: Warp, demographics: Demographics, sulci: Sulci, template: Template) -> Warp:
    """Return the warp with the size and widening that give the two target volumes, to about 1 %.

    Raises:
        ValueError: no widening gives these ventricles in this brain.
    """
    brain, ventricles = 1000 * demographics.brain_volume_ml, 1000 * demographics.ventricular_volume_ml
    whole = anatomy_at(_around_centre(BRAIN_STEP, BRAIN_HALF), warp, sulci, template)
    amounts = whole.fractions.sum(axis=1, dtype=np.float64) * BRAIN_STEP**3
    scale = (brain + ventricles) / amounts[[*TISSUE, *VENTRICLES]].sum()

    grid = _around_centre(VENTRICLE_STEP, VENTRICLE_HALF)
    places = warp(grid, points_of(grid)).reshape(3, -1)
    places = places[:, sample_maps(template.distances[:1], places, template.origin, COARSE)[0] < WIDENINGS[1]]

    def excess(widening: float) -> float:
        inside = ventricles_at(replace(warp, widening=widening).widened(places, template), template)
        return float(inside.sum(dtype=np.float64)) * VENTRICLE_STEP**3 * scale - ventricles

    low, high = WIDENINGS
    if excess(low) >= 0 or excess(high) <= 0:
        raise ValueError(
            f"No widening from {low:g} to {high:g} mm gives ventricles of {demographics.ventricular_volume_ml:g} ml in "
            f"a brain of {demographics.brain_volume_ml:g} ml. Choose another ventricular volume or another seed."
        )
    return replace(warp, size=float(np.cbrt(scale)), widening=float(brentq(excess, low, high, xtol=0.03)))


def _around_centre(step: float, half: np.ndarray) -> Grid:
    x, y, z = (np.arange(centre - reach, centre + reach, step) for centre, reach in zip(CENTRE, half, strict=True))
    return x, y, z
