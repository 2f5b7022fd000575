"""Populations of brain phantoms on the grids of public data sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from meddiffusers.data.phantoms.brain.contrasts import MODALITIES
from meddiffusers.data.phantoms.brain.lesions.appearance import LESION_LABELS
from meddiffusers.data.phantoms.brain.low_field import simulate_low_field
from meddiffusers.data.phantoms.brain.phantom import BrainPhantom
from meddiffusers.data.phantoms.brain.warp import CENTRE
from meddiffusers.data.subject import Subject

ENHANCING = LESION_LABELS["enhancing"]


def brats_subjects(n: int, seed: int = 0) -> Iterator[Subject]:
    """Yield n subjects with tumours in the geometry of BraTS: 240×240×155 voxels of 1 mm, skull-stripped, axes LPS."""
    for number, phantom in _subjects(n, seed, "tumour"):
        subject = _on_grid(phantom, (240, 240, 155), (-1.0, -1.0, 1.0), MODALITIES[:4])
        grade = "HGG" if subject.lesions is not None and (subject.lesions.array == ENHANCING).any() else "LGG"
        days = int(np.random.default_rng([phantom.seed, 6]).lognormal(np.log(370), 0.7))
        yield replace(subject, number=number, record={**subject.record, "grade": grade, "survival_days": days})


def ixi_subjects(n: int, seed: int = 0) -> Iterator[Subject]:
    """Yield n healthy heads in the geometry of IXI: sagittal T1, and axial T2 and PD on another grid."""
    for number, phantom in _subjects(n, seed):
        subject = _on_grid(phantom, (150, 256, 256), (1.2, 0.9375, 0.9375), ("t1",), skull=True)
        axial = _on_grid(phantom, (256, 256, 130), (-0.9375, -0.9375, 1.25), ("t2", "pd"), skull=True)
        record = {**subject.record, "site": ("Guys", "HH", "IOP")[phantom.seed % 3]}
        yield replace(subject, number=number, images={**subject.images, **axial.images}, record=record)


def oasis1_subjects(n: int, seed: int = 0) -> Iterator[Subject]:
    """Yield n healthy, skull-stripped brains in the atlas space of OASIS-1: T1, 176×208×176 voxels of 1 mm."""
    for number, phantom in _subjects(n, seed):
        yield replace(_on_grid(phantom, (176, 208, 176), (1.0, 1.0, 1.0), ("t1",)), number=number)


def ibsr_subjects(n: int, seed: int = 0) -> Iterator[Subject]:
    """Yield n healthy heads with region labels in the geometry of IBSR_18: T1, 256×128×256 of 0.9375×1.5×0.9375 mm."""
    for number, phantom in _subjects(n, seed):
        yield replace(_on_grid(phantom, (256, 128, 256), (0.9375, 1.5, 0.9375), ("t1",), skull=True), number=number)


def low_field_subjects(n: int, seed: int = 0, modalities: Sequence[str] = ("t1", "t2", "flair")) -> Iterator[Subject]:
    """Yield n healthy brains with region labels and simulated low-field images of 5 mm slices.

    Each subject has one modality; the modalities alternate.
    """
    for number, phantom in _subjects(n, seed):
        modality = modalities[(number - 1) % len(modalities)]
        yield replace(simulate_low_field(phantom.volume((1.6, 1.6, 5.0), (modality,)), phantom.seed), number=number)


def _subjects(n: int, seed: int, lesion: str | None = None) -> Iterator[tuple[int, BrainPhantom]]:
    for index in range(n):
        yield index + 1, random_phantom(np.random.default_rng([seed, index]), (lesion,), (1.0,))


def random_phantom(
    rng: np.random.Generator,
    kinds: Sequence[str | None],
    weights: Sequence[float],
    difficulty: tuple[float, float] = (0.0, 1.0),
) -> BrainPhantom:
    """Sample a phantom: its seed, its kind of lesion with the given weights, and its difficulty, uniform in a range."""
    seed, sampled_difficulty = int(rng.integers(2**31)), float(rng.uniform(*difficulty))
    kind = kinds[int(rng.choice(len(kinds), p=np.array(weights) / sum(weights)))]
    return BrainPhantom(seed, lesion=kind, difficulty=sampled_difficulty)


def _on_grid(
    phantom: BrainPhantom,
    sizes: tuple[int, int, int],
    steps: tuple[float, float, float],
    modalities: Sequence[str],
    skull: bool = False,
) -> Subject:
    """Render the phantom at the centre of a grid; a negative step reverses an axis."""
    x, y, z = (
        middle + (np.arange(size) - (size - 1) / 2) * step
        for middle, size, step in zip(CENTRE, sizes, steps, strict=True)
    )
    width, length, height = map(abs, steps)
    return phantom.on_grid((x, y, z), (width, length, height), modalities, skull=skull)
