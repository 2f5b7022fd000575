"""Segmented beats of the left ventricle, of phantoms or of a CAMUS folder, apex up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from meddiffusers.data.io import read
from meddiffusers.data.modalities import LABELS
from meddiffusers.data.phantoms.cardiac import CardiacPhantom
from meddiffusers.data.phantoms.cardiac.heart import VIEWS
from meddiffusers.data.phantoms.cardiac.phantom import SHAPE, SPACING
from meddiffusers.datasets.public.camus import camus
from meddiffusers.pipelines.meddiffusers_heart_scans_v1 import frames_of, spacing_of
from meddiffusers.pipelines.meddiffusers_heart_shapes_v1 import upside_down

HEARTS = "hearts"
FRAMES = 25
# Patients of the phantom by what they are for: seeds from the first on, so that no two purposes share any.
FIRST_SEED = {"train": 0, "test": 100_000, "reference": 200_000, "unseen": 300_000}


@dataclass(frozen=True, eq=False)
class HeartSequence:
    """labels (T, H, W) uint8: 1 cavity, 2 wall, 3 atrium; spacing: mm downwards and across.

    cyclic: the last frame shows the heart as the first did; ejection_fraction: as known, None if it is not.
    """

    labels: np.ndarray
    spacing: tuple[float, float]
    subject: str
    view: str
    cyclic: bool
    ejection_fraction: float | None = None


def heart_sequences(
    name: str, split: str, count: int | None = None, *, frames: int = FRAMES, subgroup: int | None = 1
) -> Iterator[HeartSequence]:
    """The beats of a split, both views of each patient in turn.

    name: "hearts", of which `count` sequences are drawn, or a folder that `data.sets.camus` reads.
    split: of phantoms one of `FIRST_SEED`, of a folder one of its splits.

    Raises:
        ValueError: an unknown split, no count of phantoms, or as `camus`.
    """
    if name == HEARTS:
        yield from _phantoms(split, count, frames)
        return
    data = camus(name, subgroup=subgroup)
    if split not in data:
        raise ValueError(f"{name} has no split {split!r}; it has {', '.join(data)}.")
    rows = data[split].remove_columns("sequence").cast_column("labels", datasets.Nifti(decode=False))
    for row in rows.select(range(min(count or len(rows), len(rows)))):
        yield _of_row(row)


def is_hearts(name: str) -> bool:
    """Whether `heart_sequences` knows the name: phantoms, or a folder with CAMUS's patients."""
    folder = Path(name)
    return name == HEARTS or (folder.is_dir() and any(folder.rglob("patient[0-9]*_[24]CH*sequence_gt.*")))


def _phantoms(split: str, count: int | None, frames: int) -> Iterator[HeartSequence]:
    if split not in FIRST_SEED or not count:
        raise ValueError(
            f"Got split={split!r} and count={count}; expected one of {', '.join(FIRST_SEED)}, and a count."
        )
    for number in range(count):
        seed, view = FIRST_SEED[split] + number // len(VIEWS), VIEWS[number % len(VIEWS)]
        phantom = CardiacPhantom(seed, view)
        labels = phantom.labels(phantom.phases(frames), SHAPE, SPACING)
        yield HeartSequence(labels, (SPACING, SPACING), str(seed), view, True, phantom.ejection_fraction)


def _of_row(row: dict[str, Any]) -> HeartSequence:
    scan = read(row["labels"], modality=LABELS)
    labels = frames_of(scan).astype(np.uint8)
    return HeartSequence(
        labels=np.ascontiguousarray(labels[:, ::-1] if upside_down(labels) else labels),
        spacing=spacing_of(scan),
        subject=row["subject"],
        view=row["view"],
        cyclic={row["ed_frame"], row["es_frame"]} != {0, len(labels) - 1},  # else it is half of a beat
        ejection_fraction=row["ejection_fraction"],
    )
