"""Segmentations of CAMUS or TED by a user's own network, one file for each patient and view, and the ground truth."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from meddiffusers.data.io import read
from meddiffusers.data.labels import to_label_ids
from meddiffusers.data.modalities import LABELS
from meddiffusers.data.scan import Scan
from meddiffusers.datasets.cardiac_sequences import CardiacSequence, apex_up, camus_rows, sequence_from_row
from meddiffusers.datasets.public.finding import below
from meddiffusers.pipelines.meddiffusers_cardiac_labels_v1 import LA, LV, MYO, frame_spacing, scan_to_frames
from meddiffusers.utils.text import bullets, some_of

FILE = re.compile(  # not the single frames patient0001_4CH_ED and _ES
    r"(|.*[^a-z0-9])(?P<subject>patient\d+)_(?P<view>[24]CH)(?!_E[DS]\b|_E[DS]_)([^a-z0-9].*)?\.(nii|nii\.gz|mhd|mha)",
    re.IGNORECASE,
)
EXAMPLE = "patient0001_4CH_half_sequence.nii.gz"
LISTED = 40  # names in a message
TOLERANCE = 1e-2  # mm, between the grids of a segmentation and of the truth


@dataclass(frozen=True, eq=False)
class SegmentedSequences:
    """Ground truth and segmentations of the same sequences.

    Args:
        sequences: Ground truth.
        segmented: Segmentation `(T, H, W)` of each sequence.
        notes: Files that are not compared.
    """

    sequences: list[CardiacSequence]
    segmented: list[np.ndarray]
    notes: list[str]


def load_segmentations(name: str, folder: Path, split: str, count: int | None = None) -> SegmentedSequences:
    """Load the ground truth of a split and the segmentations of its sequences.

    Args:
        name: CAMUS or TED folder.
        folder: Folder with one file of label maps (NIfTI, MetaImage) for each patient and view, at any depth, found by
            names such as patient0001_4CH_half_sequence_pred.nii.gz; on the grid of the ground truth.
        split: As in `load_cardiac_sequences`.
        count: Number of sequences. Default: all.

    Raises:
        ValueError: If a sequence has no segmentation or several, or one that cannot be read, is on another grid, has
            another number of frames, or other labels. The message lists all of these.
    """
    rows = camus_rows(name, split)
    rows = rows.select(range(min(count or len(rows), len(rows))))
    names = [f"{subject}_{view}" for subject, view in zip(rows["subject"][:], rows["view"][:], strict=True)]
    found, others = _find(folder)
    _require_one_each(folder, found, names, split)
    sequences, segmented, issues = [], [], []
    for row, sequence_name in zip(rows, names, strict=True):
        (path,) = found[sequence_name]
        try:
            segmented.append(_frames(path, row))
            sequences.append(sequence_from_row(row))
        except (OSError, ValueError, ImportError) as error:
            issues.append(error)
    if issues:
        raise ValueError(f"{len(issues)} of {len(names)} segmentations cannot be compared:\n{bullets(issues)}")
    extra = [path for key, paths in found.items() if key not in names for path in paths]
    notes = [
        f"{len(paths)} file{'s' if len(paths) > 1 else ''} of {folder} {what}: {some_of(path.name for path in paths)}"
        for paths, what in (
            (extra, "of other patients or views are not compared"),
            (others, "are not named as a sequence"),
        )
        if paths
    ]
    return SegmentedSequences(sequences, segmented, notes)


def _find(folder: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """Find files by patient and view, such as "patient0001_4CH", and the other scans."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; expected one with segmentations such as {EXAMPLE}.")
    found: dict[str, list[Path]] = {}
    others = []
    for path in below(folder):
        if match := FILE.fullmatch(path.name):
            found.setdefault(f"{match['subject'].lower()}_{match['view'].upper()}", []).append(path)
        elif path.name.lower().endswith((".nii", ".nii.gz", ".mhd", ".mha")):
            others.append(path)
    return found, others


def _require_one_each(folder: Path, found: Mapping[str, Sequence[Path]], names: Sequence[str], split: str) -> None:
    missing, there = ([name for name in names if (name in found) == present] for present in (False, True))
    if missing:
        raise ValueError(
            f"{folder} has no segmentation of {len(missing)} of {len(names)} sequences (split {split!r}): "
            f"{some_of(missing, LISTED)}. It has {some_of(there, LISTED) or 'none of them'}. Expected one file for "
            f"each, named such as {EXAMPLE}: add them, or choose another split."
        )
    if double := {name: found[name] for name in names if len(found[name]) > 1}:
        lines = (
            f"{name}: {', '.join(str(path.relative_to(folder)) for path in paths)}" for name, paths in double.items()
        )
        raise ValueError(
            f"{folder} has several files of one sequence; expected one, remove the others:\n{bullets(lines)}"
        )


def _frames(path: Path, row: Mapping[str, Any]) -> np.ndarray:
    """Label maps `(T, H, W)` of a file, apex up, checked against the ground truth of the row."""
    scan, truth = read(path, modality=LABELS), read(row["labels"], modality=LABELS)
    truth_name = Path(row["labels"]["path"] or f"{row['subject']}_{row['view']}, ground truth").name
    frames, true_frames = scan_to_frames(scan), scan_to_frames(truth)
    got, expected = (_grid(each, scan) for each, scan in ((frames, scan), (true_frames, truth)))
    if got != expected:
        raise ValueError(f"{path}: {got}; expected {expected}, as in {truth_name}. Resample it to that grid.")
    place, true_place = (each.affine[:3, (0, 1, 3)] for each in (scan, truth))
    if not np.allclose(place, true_place, atol=TOLERANCE):
        stated = " and ".join(str(np.round(each, 3).tolist()) for each in (place, true_place))
        raise ValueError(
            f"{path}: lies elsewhere than {truth_name}, by the directions and the origin of their headers ({stated}). "
            "Write it with the header of the image."
        )
    labels = to_label_ids(frames, str(path), largest=LA)
    if not any((frame == LV).any() and (frame == MYO).any() for frame in labels):
        raise ValueError(f"{path}: no frame shows the LV (label {LV}) and the myocardium (label {MYO}); expected both.")
    return apex_up(labels, true_frames)


def _grid(frames: np.ndarray, scan: Scan) -> str:
    rows, columns = frame_spacing(scan)
    count, height, width = frames.shape
    return f"{count} frames of {height}×{width} pixels of {rows:.3g}×{columns:.3g} mm"
