"""Lesions of the brain phantom: their common interface, and sampling by kind and difficulty."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from meddiffusers.data.phantoms.brain.lesions.appearance import LESION_LABELS, LesionAppearance
from meddiffusers.data.phantoms.brain.lesions.cavity import random_cavity
from meddiffusers.data.phantoms.brain.lesions.tumour import random_tumour
from meddiffusers.data.phantoms.brain.lesions.white_matter_lesions import random_white_matter_lesions
from meddiffusers.data.phantoms.brain.smooth_field import Grid
from meddiffusers.data.phantoms.brain.tissue import Surroundings, Tissue

KINDS = ("tumour", "white_matter_lesions", "cavity")


class Lesion(Protocol):
    """The lesions of one subject, defined as functions of the position in mm and so independent of the grid.

    `tissue` is the anatomy (X, Y, Z) at the points of the grid, with `displacement` applied.
    """

    appearance: LesionAppearance

    def displacement(self, grid: Grid) -> np.ndarray | None:
        """Smooth, invertible displacement (3, X, Y, Z) in mm: point p shows the healthy tissue of p − displacement.

        None if nothing is displaced.
        """

    def parts(self, grid: Grid, tissue: Tissue) -> dict[str, np.ndarray]:
        """Partial-volume fractions (X, Y, Z) float32 by the name in `LESION_LABELS`; their sum is in [0, 1]."""

    def raters(self, grid: Grid, tissue: Tissue) -> np.ndarray:
        """(R, X, Y, Z) bool: segmentations of the whole lesion by R simulated raters.

        The intersection of all raters lies within the reference, and the reference within their union.
        """


def random_lesions(
    rng: np.random.Generator, kind: str, difficulty: float, surroundings: Surroundings, age: float = 50.0
) -> Lesion:
    """Sample the lesions of one subject.

    Args:
        rng: source of randomness.
        kind: one of `KINDS`.
        difficulty: from 0, obvious, to 1, small, faint and scattered with ambiguous borders.
        surroundings: tissue at points of the subject.
        age: years; the number of white-matter lesions depends on it.

    Raises:
        ValueError: unknown kind, or a difficulty out of range.
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
    """(X, Y, Z) uint8 ids of `LESION_LABELS`: the largest part where the lesion's fraction exceeds one half, else 0."""
    soft = np.stack(list(parts.values()))
    ids = np.array([LESION_LABELS[name] for name in parts], dtype=np.uint8)
    return np.where(soft.sum(axis=0) > 0.5, ids[soft.argmax(axis=0)], np.uint8(0))
