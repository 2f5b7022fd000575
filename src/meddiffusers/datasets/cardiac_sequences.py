"""Segmented sequences of the left ventricle, from the cardiac phantom or from a CAMUS folder, apex up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from meddiffusers.data.io import read
from meddiffusers.data.labels import to_label_ids
from meddiffusers.data.modalities import LABELS
from meddiffusers.data.phantoms.cardiac import CardiacPhantom
from meddiffusers.data.phantoms.cardiac.heart import VIEWS
from meddiffusers.data.phantoms.cardiac.phantom import SHAPE, SPACING
from meddiffusers.data.phantoms.cardiac.sector import inside_sector
from meddiffusers.data.phantoms.cardiac.varied import SIDE
from meddiffusers.datasets.public.camus import camus
from meddiffusers.pipelines.meddiffusers_cardiac_attributes_v1 import is_upside_down
from meddiffusers.pipelines.meddiffusers_cardiac_labels_v1 import frame_spacing, scan_to_frames

ALL = "all"  # splits of a folder
CARDIAC_PHANTOM, VARIED_CARDIAC_PHANTOM = "cardiac_phantom", "cardiac_phantom_varied"
FRAMES = 25
VARIED_FRAMES, VARIED_SPACINGS = (8, 80), (0.4, 2.5)  # frames in a sequence; pixels in mm, evenly by their logarithm
HALF_CYCLES, CUT_OFF = 0.3, 0.15  # probabilities of half a cycle, and of a heart that the edge of the sector cuts off
# First phantom seed of each split. A seed is a patient, so that no two splits share any.
FIRST_SEED = {"train": 0, "test": 100_000, "reference": 200_000, "unseen": 300_000}


@dataclass(frozen=True, eq=False)
class CardiacSequence:
    """Label maps of one view of one patient over time.

    Args:
        labels: Label maps `(T, H, W)`, uint8: 0 background, 1 LV, 2 myocardium, 3 left atrium.
        spacing: Distances in mm between rows and between columns.
        subject: Name of the patient.
        view: "4CH" or "2CH", the apical four- or two-chamber view.
        cyclic: Whether the last frame shows the same phase of the cardiac cycle as the first.
        ejection_fraction: In [0, 1]; None if unknown.
    """

    labels: np.ndarray
    spacing: tuple[float, float]
    subject: str
    view: str
    cyclic: bool
    ejection_fraction: float | None = None


def load_cardiac_sequences(
    name: str, split: str, count: int | None = None, *, frames: int | None = FRAMES, subgroup: int | None = 1
) -> Iterator[CardiacSequence]:
    """Load the sequences of a split, both views of each patient in turn.

    Args:
        name: "cardiac_phantom", "cardiac_phantom_varied", or a folder that `datasets.public.camus` reads. Varied hearts
            come in pixels of .4 to 2.5 mm, and some are cut off by the sector, but not those of the split "reference".
        split: For the phantom a key of `FIRST_SEED`, for a folder one of its splits, or "all".
        count: Number of sequences; required for the phantom. Default: all of a folder.
        frames: Number of frames in a cardiac cycle of the phantom. None: 8 to 80, in whole and half cycles.
        subgroup: CAMUS subgroup that defines the splits of a folder.

    Yields:
        One `CardiacSequence` for each view.

    Raises:
        ValueError: If the split is unknown, no count is given for the phantom, or as `camus`.
    """
    if name in (CARDIAC_PHANTOM, VARIED_CARDIAC_PHANTOM):
        yield from _phantom_sequences(name, split, count, frames)
        return
    rows = camus_rows(name, split, subgroup)
    for row in rows.select(range(min(count or len(rows), len(rows)))):
        yield sequence_from_row(row)


def camus_rows(folder: str, split: str, subgroup: int | None = 1) -> datasets.Dataset:
    """Load the rows of a CAMUS folder without the images; label maps are not decoded. Arguments as above."""
    data = camus(folder, subgroup=None, test_fraction=0) if split == ALL else camus(folder, subgroup=subgroup)
    part = "train" if split == ALL else split
    if part not in data:
        raise ValueError(f"{folder} has no split {split!r}; it has {', '.join(data)}, and {ALL!r} for all of them.")
    return data[part].remove_columns("sequence").cast_column("labels", datasets.Nifti(decode=False))


def is_cardiac_dataset(name: str) -> bool:
    """Return whether `load_cardiac_sequences` knows the name: the phantom, or a folder with CAMUS patients."""
    folder = Path(name)
    return name in (CARDIAC_PHANTOM, VARIED_CARDIAC_PHANTOM) or (
        folder.is_dir() and any(folder.rglob("patient[0-9]*_[24]CH*sequence_gt.*"))
    )


def _phantom_sequences(name: str, split: str, count: int | None, frames: int | None) -> Iterator[CardiacSequence]:
    if split not in FIRST_SEED or not count:
        raise ValueError(
            f"Got split={split!r} and count={count}; expected one of {', '.join(FIRST_SEED)}, and a count."
        )
    for i in range(count):
        seed, view = FIRST_SEED[split] + i // len(VIEWS), VIEWS[i % len(VIEWS)]
        phantom = CardiacPhantom(seed, view, varied=name == VARIED_CARDIAC_PHANTOM)
        rng = np.random.default_rng([seed, VIEWS.index(view), 2])
        half = frames is None and rng.random() < HALF_CYCLES
        number = int(rng.integers(*VARIED_FRAMES, endpoint=True)) if frames is None else frames
        phases = phantom.phases(number, half)
        labels, spacing = phantom.labels(phases, SHAPE, SPACING), SPACING
        if name == VARIED_CARDIAC_PHANTOM:
            labels, spacing = _varied_labels(phantom, phases, rng, cut=split != "reference" and rng.random() < CUT_OFF)
        yield CardiacSequence(labels, (spacing, spacing), str(seed), view, not half, phantom.ejection_fraction)


def _varied_labels(
    phantom: CardiacPhantom, phases: np.ndarray, rng: np.random.Generator, cut: bool
) -> tuple[np.ndarray, float]:
    """Label maps on pixels of a random size, and this size in mm."""
    spacing = float(np.exp(rng.uniform(*np.log(VARIED_SPACINGS))))
    side = int(SIDE / spacing)
    labels = phantom.labels(phases, (side, side), spacing)
    return np.where(inside_sector((side, side), spacing), labels, 0).astype(np.uint8) if cut else labels, spacing


def sequence_from_row(row: dict[str, Any]) -> CardiacSequence:
    """Read the label maps of a row of `camus_rows`, apex up."""
    scan = read(row["labels"], modality=LABELS)
    labels = to_label_ids(scan_to_frames(scan), scan.source, largest=3)
    return CardiacSequence(
        labels=apex_up(labels, labels),
        spacing=frame_spacing(scan),
        subject=row["subject"],
        view=row["view"],
        cyclic={row["ed_frame"], row["es_frame"]} != {0, len(labels) - 1},  # otherwise half a cycle, from ED to ES
        ejection_fraction=row["ejection_fraction"],
    )


def apex_up(frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Turn frames `(T, H, W)` upside down where the ground truth on the same grid shows the apex below."""
    return np.ascontiguousarray(frames[:, ::-1] if is_upside_down(truth) else frames)
