"""Simulated raters: five plausible segmentations of a lesion with an ambiguous border.

A lesion is a level set: 0 at the border of the reference, +1 one margin width inside, −1 one outside. Each rater adds
an offset: a bias of the rater (over- or under-segmentation), a bias for the subject, and smooth local differences. The
offsets of the complete raters have mean 0 at every point, so that the reference lies between their intersection and
their union.
"""

from __future__ import annotations

import numpy as np

from meddiffusers.data.phantoms.brain.smooth_field import Grid, SmoothField

RATERS = 5
_RATER_BIAS = np.array([0.9, -0.9, 0.0, 0.6, -1.1])  # the same for all subjects
_COMPLETE = 3  # the first raters mark every focus; the others may miss ambiguous ones


class Raters:
    """The raters of one subject.

    Args:
        rng: source of randomness.
        detail: mm, correlation length of the fine local differences; the coarse ones have three times this length.
        spread: scale of the offsets, in margin widths.
    """

    def __init__(self, rng: np.random.Generator, detail: float, spread: float = 0.27) -> None:
        self._spread = spread
        self._bias = _RATER_BIAS + 0.4 * rng.standard_normal(RATERS)
        self._fine = SmoothField(rng, max(detail, 5.0), RATERS)
        self._coarse = SmoothField(rng, max(3 * detail, 15.0), RATERS)

    def offsets(self, grid: Grid) -> np.ndarray:
        """(RATERS, X, Y, Z) offsets to add to the level set."""
        offsets = self._bias[:, None, None, None] + 0.5 * self._fine(grid) + 0.7 * self._coarse(grid)
        return (self._spread * (offsets - offsets[:_COMPLETE].mean(axis=0))).astype(np.float32)


def uncertain_raters(rng: np.random.Generator, ambiguity: float) -> frozenset[int]:
    """Raters who miss a focus: each of those who may, with probability `ambiguity`."""
    return frozenset(rater for rater in range(_COMPLETE, RATERS) if rng.random() < ambiguity)
