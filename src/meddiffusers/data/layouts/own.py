"""Cases as anyone may lay out their own scans: files below a folder, and a table with a row for each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from meddiffusers.data.io import write
from meddiffusers.data.layouts.folders import new_folder, on_one_grid, write_csv
from meddiffusers.data.subject import Subject
from meddiffusers.utils.atomic import replacing

TABLE = "scans.csv"
COLUMNS = ("file_name", "labels_file_name", "subject", "modality", "sex", "age")


def write_own(cases: Iterable[Subject], folder: str | Path) -> Path:
    """Write each scan, its regions if there are any, and the table `scans.csv`, as `load_scans` reads them.

    Raises:
        FileExistsError: the folder holds something already.
        ValueError: a case with scans and regions on several grids.
    """
    folder, rows = new_folder(folder), []
    for case in cases:
        labels = () if case.regions is None else (case.regions,)
        on_one_grid(case, *case.images.values(), *labels)
        subject = f"subject-{case.number:03d}"
        with replacing(folder / subject) as staged:
            for name, scan in case.images.items():
                write(scan, staged / f"{name}.nii.gz")
            for scan in labels:
                write(scan, staged / "labels.nii.gz")
        rows += [
            {
                "file_name": f"{subject}/{name}.nii.gz",
                "labels_file_name": f"{subject}/labels.nii.gz" if labels else "",
                "subject": subject,
                "modality": name,
                "sex": case.record.get("sex", ""),
                "age": round(case.record["age"]) if "age" in case.record else "",
            }
            for name in case.images
        ]
    write_csv(folder / TABLE, COLUMNS, rows)
    return folder
