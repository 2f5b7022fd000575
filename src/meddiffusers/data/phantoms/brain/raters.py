"""Simulated raters: five plausible outlines of a lesion whose border is not to be seen clearly.

A lesion has a latent level, 0 at the border of the reference, ±1 one margin width inside or outside. A rater sees it
with an offset: a habit (generous or sparing), the mood of the case, and smooth local differences. The offsets of the
thorough raters have mean 0 at every point, so that the reference lies between what all and what any of them mark.
"""

from __future__ import annotations

import numpy as np

from meddiffusers.data.phantoms.brain.smooth_field import Grid, SmoothField

RATERS = 5
_HABITS = np.array([0.9, -0.9, 0.0, 0.6, -1.1])  # the same in every case
_THOROUGH = 3  # the first raters; the others may leave a doubtful focus out


class Raters:
    """The raters of one case; their outlines differ over lengths of `detail` mm and three times as much.

    spread: how much their offsets differ, in margin widths.
    """

    def __init__(self, rng: np.random.Generator, detail: float, spread: float = 0.27) -> None:
        self._spread = spread
        self._bias = _HABITS + 0.4 * rng.standard_normal(RATERS)
        self._fine = SmoothField(rng, max(detail, 5.0), RATERS)
        self._coarse = SmoothField(rng, max(3 * detail, 15.0), RATERS)

    def offsets(self, grid: Grid) -> np.ndarray:
        """(RATERS, X, Y, Z) to be added to the latent level."""
        offsets = self._bias[:, None, None, None] + 0.5 * self._fine(grid) + 0.7 * self._coarse(grid)
        return (self._spread * (offsets - offsets[:_THOROUGH].mean(axis=0))).astype(np.float32)


def uncertain_raters(rng: np.random.Generator, doubt: float) -> frozenset[int]:
    """The raters who leave a focus out, each of those who may with probability `doubt`."""
    return frozenset(rater for rater in range(_THOROUGH, RATERS) if rng.random() < doubt)
