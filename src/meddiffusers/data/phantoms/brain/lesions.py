"""Lesions of the brain phantom: what every one can be asked, and the choice of one by kind and difficulty."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from meddiffusers.data.phantoms.brain.cavity import random_cavity
from meddiffusers.data.phantoms.brain.lesion_appearance import LESION_LABELS, LesionAppearance
from meddiffusers.data.phantoms.brain.smooth_field import Grid
from meddiffusers.data.phantoms.brain.tissue import Surroundings, Tissue
from meddiffusers.data.phantoms.brain.tumour import random_tumour
from meddiffusers.data.phantoms.brain.white_matter_lesions import random_white_matter_lesions

KINDS = ("tumour", "white_matter_lesions", "cavity")


class Lesion(Protocol):
    """The lesions of one subject, a function of the point in mm: every grid sees the same lesion.

    `tissue` is the anatomy (X, Y, Z) at the points of the grid, already displaced by `push`.
    """

    look: LesionAppearance

    def push(self, grid: Grid) -> np.ndarray | None:
        """(3, X, Y, Z) mm, smooth and invertible: at a point of the grid lies the healthy point minus this push.

        None where nothing moves.
        """

    def parts(self, grid: Grid, tissue: Tissue) -> dict[str, np.ndarray]:
        """Soft fractions (X, Y, Z) float32 of those of `LESION_LABELS` that the lesion has, in [0, 1] together."""

    def raters(self, grid: Grid, tissue: Tissue) -> np.ndarray:
        """(R, X, Y, Z) bool: the whole lesion as each simulated rater outlines it.

        What all of them mark is in the reference, and the reference in what any of them mark.
        """


def random_lesions(
    rng: np.random.Generator, kind: str, difficulty: float, surroundings: Surroundings, age: float = 50.0
) -> Lesion:
    """The lesions of one subject, of one of `KINDS`.

    difficulty: 0 for obvious lesions to 1 for small, faint, scattered ones with ambiguous borders. age: in years; on it
    depends how many white-matter lesions there are. Raises ValueError for another kind or difficulty.
    """
    if not 0 <= difficulty <= 1:
        raise ValueError(f"difficulty={difficulty} is not between 0 and 1.")
    if kind == "tumour":
        return random_tumour(rng, difficulty, surroundings)
    if kind == "white_matter_lesions":
        return random_white_matter_lesions(rng, difficulty, surroundings, age)
    if kind == "cavity":
        return random_cavity(rng, difficulty, surroundings)
    raise ValueError(f"There are no lesions of the kind {kind!r}; choose one of {', '.join(KINDS)}.")


def lesion_labels(parts: dict[str, np.ndarray]) -> np.ndarray:
    """(X, Y, Z) uint8 of the ids of `LESION_LABELS`: the largest part wherever the lesion is more than half, else 0."""
    soft = np.stack(list(parts.values()))
    ids = np.array([LESION_LABELS[name] for name in parts], dtype=np.uint8)
    return np.where(soft.sum(axis=0) > 0.5, ids[soft.argmax(axis=0)], np.uint8(0))
