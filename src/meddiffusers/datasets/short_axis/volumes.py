"""Short-axis label maps of the heart from a folder of ACDC, or from an .npz file of label stacks."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np

from meddiffusers.data.io import read
from meddiffusers.data.labels import to_label_ids
from meddiffusers.data.modalities import LABELS
from meddiffusers.datasets.public.acdc import FRAME_LABELS, acdc
from meddiffusers.datasets.public.acdc import LABELS as ACDC_LABELS
from meddiffusers.datasets.public.splitting import select_test_subjects
from meddiffusers.pipelines.meddiffusers_cardiac_labels_v1 import LV, MYO, frame_spacing, scan_to_frames

STACK = re.compile(r"(?P<subject>patient\d+)_(?P<frame>frame\d+)")  # name of an array in an .npz file
TO_CAMUS = np.array([0, 0, MYO, LV], np.uint8)  # from the labels of ACDC


@dataclass(frozen=True, eq=False)
class ShortAxisVolume:
    """Label maps of one patient at one cardiac phase.

    Args:
        labels: Label maps `(D, H, W)` of D slices, uint8: 0 background, 1 LV, 2 myocardium.
        spacing: Distances in mm between rows and between columns.
        subject: Name of the patient.
    """

    labels: np.ndarray
    spacing: tuple[float, float]
    subject: str


def is_short_axis_dataset(name: str) -> bool:
    """Return whether the name ends with .npz, or is that of a folder with label maps named as those of ACDC."""
    path = Path(name)
    return path.suffix == ".npz" or (
        path.is_dir() and any(re.fullmatch(FRAME_LABELS, file.name) for file in path.rglob("patient*_gt.nii*"))
    )


def load_short_axis_volumes(name: str, split: str, *, test_fraction: float, seed: int) -> Iterator[ShortAxisVolume]:
    """Load the label maps of a split, in the labels of CAMUS.

    Args:
        name: Folder that `datasets.public.acdc` reads, or .npz file with one label stack `(D, H, W)` for each patient
            and phase, named patient001_frame01, in the labels of ACDC. Such a file has no size of pixels; each counts
            as 1 mm.
        split: "train" or "test".
        test_fraction: Fraction of the patients in the test split, where the folder does not define it.
        seed: Seed of the split.

    Yields:
        One `ShortAxisVolume` for each patient and phase.

    Raises:
        ValueError: If a file or an array in it is not as expected, or as `acdc`.
    """
    if Path(name).suffix == ".npz":
        yield from _stacks(Path(name), split, test_fraction, seed)
        return
    rows = acdc(name, test_fraction=test_fraction, seed=seed)[split]
    rows = rows.select_columns(["subject", "labels"]).cast_column("labels", datasets.Nifti(decode=False))
    for row in rows:
        if row["labels"] is not None:
            scan = read(row["labels"], modality=LABELS)
            labels = to_label_ids(scan_to_frames(scan), scan.source, largest=max(ACDC_LABELS))
            yield ShortAxisVolume(TO_CAMUS[labels], frame_spacing(scan), row["subject"])


def _stacks(path: Path, split: str, test_fraction: float, seed: int) -> Iterator[ShortAxisVolume]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected an .npz file of label stacks. Give its whole path.")
    try:
        file = np.load(path, allow_pickle=False)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as .npz; expected arrays as `numpy.savez` writes them.") from error
    with file:
        names = {name: match["subject"] for name in sorted(file.files) if (match := STACK.fullmatch(name))}
        if not names or len(names) < len(file.files):
            others = [name for name in file.files if name not in names]
            raise ValueError(
                f"{path} holds {', '.join(others[:3]) or 'nothing'}; expected only label stacks (D, H, W) that are "
                "named by patient and frame, such as patient001_frame01."
            )
        test = select_test_subjects(names.values(), test_fraction, seed)
        for name, subject in names.items():
            if (subject in test) == (split == "test"):
                yield ShortAxisVolume(TO_CAMUS[_stack(file, name, path)], (1.0, 1.0), subject)


def _stack(file: np.lib.npyio.NpzFile, name: str, path: Path) -> np.ndarray:
    try:
        stack = file[name]
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}, {name}: cannot be read; expected an array of integers. Write it again.") from error
    if stack.ndim != 3:
        raise ValueError(f"{path}, {name}: got an array of shape {stack.shape}; expected a label stack (D, H, W).")
    return to_label_ids(stack, f"{path}, {name}", largest=max(ACDC_LABELS))
