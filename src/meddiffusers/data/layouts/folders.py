"""Functions shared by all layouts: check the folder and the subjects, derive tissue maps, write tables."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meddiffusers.data.regions import CEREBROSPINAL_FLUID, VENTRICLES
from meddiffusers.data.scan import Scan, stack_channels
from meddiffusers.data.subject import Subject
from meddiffusers.utils.atomic import atomic_path

# Label ids of the three tissues in IBSR and FSL; all regions not listed below are grey matter.
FLUID, GREY, WHITE = 1, 2, 3
FLUID_REGIONS = (*VENTRICLES, CEREBROSPINAL_FLUID, 72)
WHITE_REGIONS = (2, 41, 7, 46, 16, 28, 60, 73, 74)  # including brainstem and ventral diencephalon


def new_folder(folder: str | Path) -> Path:
    """Create the folder; FileExistsError if it is not empty, since two data sets would mix."""
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; expected a new folder to write a data set to: give another one.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def required_scans(subject: Subject, layout: str, *names: str) -> dict[str, Scan]:
    """Images by modality, and the label maps "regions" and "lesions"; ValueError names those that are missing."""
    maps = {"regions": subject.regions, "lesions": subject.lesions}
    scans = {**subject.images, **{name: scan for name, scan in maps.items() if scan is not None}}
    missing = [name for name in names if name not in scans]
    if missing:
        raise ValueError(
            f"Subject {subject.number} has no {', '.join(missing)}, which the layout of {layout} needs; "
            f"it has {', '.join(scans)}. Add them, or choose another layout."
        )
    return {name: scans[name] for name in names}


def check_same_grid(subject: Subject, *scans: Scan) -> None:
    """Raise ValueError if the scans are not on one voxel grid."""
    try:
        stack_channels(scans)
    except ValueError as error:
        raise ValueError(f"Subject {subject.number} cannot be written: {error}") from None


def tissues(regions: Scan) -> Scan:
    """Convert region labels of `data.regions` to fluid (1), grey matter (2) and white matter (3), uint8."""
    labels = np.where(regions.array > 0, GREY, 0).astype(np.uint8)
    labels[np.isin(regions.array, WHITE_REGIONS)] = WHITE
    labels[np.isin(regions.array, FLUID_REGIONS)] = FLUID
    return regions.like(labels)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table atomically; missing columns of a row are empty."""
    with atomic_path(path) as staged, staged.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
