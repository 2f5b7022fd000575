"""What all layouts share: a new folder, and what a case must hold for them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meddiffusers.data.regions import CEREBROSPINAL_FLUID, VENTRICLES
from meddiffusers.data.scan import Scan, stack_channels
from meddiffusers.data.subject import Subject
from meddiffusers.utils.atomic import replacing

# Of IBSR's and FSL's three tissues; all other regions are grey matter.
FLUID, GREY, WHITE = 1, 2, 3
FLUID_REGIONS = (*VENTRICLES, CEREBROSPINAL_FLUID, 72)
WHITE_REGIONS = (2, 41, 7, 46, 16, 28, 60, 73, 74)  # with brainstem and ventral diencephalon


def new_folder(folder: str | Path) -> Path:
    """The folder, made; FileExistsError where it holds anything, since two sets would mix."""
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; expected a new folder to write a data set to: give another one.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def needed(case: Subject, layout: str, *names: str) -> dict[str, Scan]:
    """The images of those names, "regions" and "lesions" too; ValueError naming those that the case lacks."""
    maps = {"regions": case.regions, "lesions": case.lesions}
    scans = {**case.images, **{name: scan for name, scan in maps.items() if scan is not None}}
    missing = [name for name in names if name not in scans]
    if missing:
        raise ValueError(
            f"Case {case.number} has no {', '.join(missing)}, which the layout of {layout} needs; "
            f"it has {', '.join(scans)}. Add them, or choose another layout."
        )
    return {name: scans[name] for name in names}


def on_one_grid(case: Subject, *scans: Scan) -> None:
    """ValueError where the scans do not share their voxels."""
    try:
        stack_channels(scans)
    except ValueError as error:
        raise ValueError(f"Case {case.number} cannot be written: {error}") from None


def tissues(regions: Scan) -> Scan:
    """Label map of fluid (1), grey matter (2) and white matter (3) of a label map of `data.regions`, as uint8."""
    labels = np.where(regions.array > 0, GREY, 0).astype(np.uint8)
    labels[np.isin(regions.array, WHITE_REGIONS)] = WHITE
    labels[np.isin(regions.array, FLUID_REGIONS)] = FLUID
    return regions.like(labels)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A table, whole or absent; "" where a row lacks a column."""
    with replacing(path) as staged, staged.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
