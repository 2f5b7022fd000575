"""Many brain phantoms: cases on the grids of published data sets, and a data set of slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from meddiffusers.data.phantoms.brain.contrasts import MODALITIES
from meddiffusers.data.phantoms.brain.lesion_appearance import LESION_LABELS
from meddiffusers.data.phantoms.brain.low_field import low_field
from meddiffusers.data.phantoms.brain.phantom import BrainPhantom
from meddiffusers.data.phantoms.brain.warp import CENTRE
from meddiffusers.data.subject import Subject

ENHANCING = LESION_LABELS["enhancing"]


def brats_subjects(n: int, seed: int = 0) -> Iterator[Subject]:
    """Tumours of every difficulty as BraTS has them: 240×240×155 voxels of 1 mm, skull-stripped, axes LPS."""
    for number, subject in _subjects(n, seed, "tumour"):
        case = _case(subject, (240, 240, 155), (-1.0, -1.0, 1.0), MODALITIES[:4])
        grade = "HGG" if case.lesions is not None and (case.lesions.array == ENHANCING).any() else "LGG"
        days = int(np.random.default_rng([subject.seed, 6]).lognormal(np.log(370), 0.7))
        yield replace(case, number=number, record={**case.record, "grade": grade, "survival_days": days})


def ixi_subjects(n: int, seed: int = 0) -> Iterator[Subject]:
    """Healthy heads as IXI has them: T1 in sagittal, T2 and PD in axial slices, each on a grid of its own."""
    for number, subject in _subjects(n, seed):
        case = _case(subject, (150, 256, 256), (1.2, 0.9375, 0.9375), ("t1",), skull=True)
        axial = _case(subject, (256, 256, 130), (-0.9375, -0.9375, 1.25), ("t2", "pd"), skull=True)
        record = {**case.record, "site": ("Guys", "HH", "IOP")[subject.seed % 3]}
        yield replace(case, number=number, images={**case.images, **axial.images}, record=record)


def oasis1_subjects(n: int, seed: int = 0) -> Iterator[Subject]:
    """Healthy brains as OASIS-1 has them after atlas registration: T1, 176×208×176 voxels of 1 mm, skull-stripped."""
    for number, subject in _subjects(n, seed):
        yield replace(_case(subject, (176, 208, 176), (1.0, 1.0, 1.0), ("t1",)), number=number)


def ibsr_subjects(n: int, seed: int = 0) -> Iterator[Subject]:
    """Healthy heads with region labels as IBSR_18 has them: T1, coronal, 256×128×256 voxels of 0.9375×1.5×0.9375 mm."""
    for number, subject in _subjects(n, seed):
        yield replace(_case(subject, (256, 128, 256), (0.9375, 1.5, 0.9375), ("t1",), skull=True), number=number)


def low_field_subjects(n: int, seed: int = 0, modalities: Sequence[str] = ("t1", "t2", "flair")) -> Iterator[Subject]:
    """Healthy brains with region labels from a scanner of low field, one modality each in turn: slices of 5 mm."""
    for number, subject in _subjects(n, seed):
        wanted = modalities[(number - 1) % len(modalities)]
        yield replace(low_field(subject.volume((1.6, 1.6, 5.0), (wanted,)), subject.seed), number=number)


def _subjects(n: int, seed: int, lesion: str | None = None) -> Iterator[tuple[int, BrainPhantom]]:
    for index in range(n):
        yield index + 1, random_phantom(np.random.default_rng([seed, index]), (lesion,), (1.0,))


def random_phantom(
    draw: np.random.Generator,
    kinds: Sequence[str | None],
    weights: Sequence[float],
    difficulty: tuple[float, float] = (0.0, 1.0),
) -> BrainPhantom:
    number, hard = int(draw.integers(2**31)), float(draw.uniform(*difficulty))
    kind = kinds[int(draw.choice(len(kinds), p=np.array(weights) / sum(weights)))]
    return BrainPhantom(number, lesion=kind, difficulty=hard)


def _case(
    subject: BrainPhantom,
    sizes: tuple[int, int, int],
    steps: tuple[float, float, float],
    modalities: Sequence[str],
    skull: bool = False,
) -> Subject:
    """The subject in the middle of a grid; an axis with a negative step runs to the left, back or down."""
    x, y, z = (
        middle + (np.arange(size) - (size - 1) / 2) * step
        for middle, size, step in zip(CENTRE, sizes, steps, strict=True)
    )
    width, length, height = map(abs, steps)
    return subject.on_grid((x, y, z), (width, length, height), modalities, skull=skull)
