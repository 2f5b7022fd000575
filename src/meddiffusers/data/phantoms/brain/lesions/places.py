"""Sample the location of a lesion."""

from __future__ import annotations

import numpy as np

from meddiffusers.data.phantoms.brain.smooth_field import HIGH, LOW
from meddiffusers.data.phantoms.brain.tissue import Surroundings

_CANDIDATES = 1024


def random_place(
    rng: np.random.Generator,
    surroundings: Surroundings,
    depth: tuple[float, float],
    near: np.ndarray | None = None,
    distance: float = 0.0,
) -> np.ndarray:
    """Sample a location in the white matter of the cerebrum; if no candidate fits, the best one is returned.

    Args:
        rng: source of randomness.
        surroundings: tissue at points of the subject.
        depth: least and greatest depth below the brain's surface in mm.
        near: (3,) mm, sample around this point.
        distance: mm from `near`.

    Returns:
        (3,) in mm.
    """
    if near is None:
        candidates = rng.uniform(LOW, HIGH, (_CANDIDATES, 3))
    else:
        candidates = near + distance * rng.standard_normal((_CANDIDATES // 4, 3)) / 1.6
    tissue = surroundings(candidates)
    too_shallow, too_deep = depth[0] - tissue.depth, tissue.depth - depth[1]
    misfit = np.clip(np.maximum(too_shallow, too_deep) / 10, 0, 1) + (tissue.ventricle_distance < 1)
    score = tissue.cerebrum * tissue.brain * (1 + np.minimum(tissue.white, 0.7) - 0.5 * misfit)
    return candidates[int(np.argmax(np.round(score, 2)))]  # the first of equal candidates, which are in random order
