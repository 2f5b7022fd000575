"""Write subjects as a folder of scans and a table with one row per scan."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from meddiffusers.data.io import write
from meddiffusers.data.layouts.folders import check_same_grid, new_folder, write_csv
from meddiffusers.data.subject import Subject
from meddiffusers.utils.atomic import atomic_path

TABLE = "scans.csv"
COLUMNS = ("file_name", "labels_file_name", "subject", "modality", "sex", "age")


def write_own(subjects: Iterable[Subject], folder: str | Path) -> Path:
    """Write each scan, its regions if there are any, and the table scans.csv, as `load_scans` reads them.

    Args:
        subjects: each with scans and regions on one grid. The values "sex" and "age" of the record go into the table.
        folder: new or empty.

    Returns:
        The folder.

    Raises:
        FileExistsError: the folder is not empty.
        ValueError: scans and regions of a subject are on different grids.
    """
    folder, rows = new_folder(folder), []
    for subject in subjects:
        labels = () if subject.regions is None else (subject.regions,)
        check_same_grid(subject, *subject.images.values(), *labels)
        subject_id = f"subject-{subject.number:03d}"
        with atomic_path(folder / subject_id) as staged:
            for name, scan in subject.images.items():
                write(scan, staged / f"{name}.nii.gz")
            for scan in labels:
                write(scan, staged / "labels.nii.gz")
        rows += [
            {
                "file_name": f"{subject_id}/{name}.nii.gz",
                "labels_file_name": f"{subject_id}/labels.nii.gz" if labels else "",
                "subject": subject_id,
                "modality": name,
                "sex": subject.record.get("sex", ""),
                "age": round(subject.record["age"]) if "age" in subject.record else "",
            }
            for name in subject.images
        ]
    write_csv(folder / TABLE, COLUMNS, rows)
    return folder
