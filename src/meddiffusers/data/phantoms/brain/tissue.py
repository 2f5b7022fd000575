"""Tissue maps that lesions are placed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tissue:
    """Partial-volume fractions in [0, 1] and distances in mm at some points, float32 arrays of one shape.

    Attributes:
        white: white matter.
        grey: cortex and deep grey matter.
        fluid: cerebrospinal fluid outside the ventricles.
        ventricle: cerebrospinal fluid in the ventricles.
        brain: 1 within the outer surface of the brain, fluid included, 0 outside.
        depth: mm below that surface, 0 outside.
        ventricle_distance: mm to the wall of the ventricles, negative inside.
        cerebrum: 1 in the cerebral hemispheres, 0 in cerebellum and brainstem.
    """

    white: np.ndarray
    grey: np.ndarray
    fluid: np.ndarray
    ventricle: np.ndarray
    brain: np.ndarray
    depth: np.ndarray
    ventricle_distance: np.ndarray
    cerebrum: np.ndarray


Surroundings = Callable[[np.ndarray], Tissue]  # points (N, 3) in mm of the subject → tissue of shape (N,)
