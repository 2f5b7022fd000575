"""Write subjects in the flat folder layout of IXI."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from meddiffusers.data.io import write
from meddiffusers.data.layouts.folders import new_folder, required_scans
from meddiffusers.data.subject import Subject
from meddiffusers.utils.atomic import atomic_path
from meddiffusers.utils.optional import optional_import

COLUMNS = (
    "IXI_ID", "SEX_ID (1=m, 2=f)", "HEIGHT", "WEIGHT", "ETHNIC_ID", "MARITAL_ID", "OCCUPATION_ID", "QUALIFICATION_ID",
    "DOB", "DATE_AVAILABLE", "STUDY_DATE", "AGE",
)  # fmt: skip


def write_ixi(subjects: Iterable[Subject], folder: str | Path) -> Path:
    """Write the subjects one by one, each file atomically, then the table IXI.xls.

    Args:
        subjects: each with t1, and optionally t2 and pd. The values "age", "sex", "height" (cm) and "weight" (kg) of
            the record go into the table, 0 if unknown; "site" ("Guys", "HH" or "IOP") goes into the file names.
        folder: new or empty.

    Returns:
        The folder.

    Raises:
        FileExistsError: the folder is not empty.
        ValueError: a subject without t1.
        ImportError: the extra `tables` is not installed.
    """
    optional_import("xlwt", "tables")
    folder = new_folder(folder)
    rows = []
    for subject in subjects:
        start = f"IXI{subject.number:03d}-{subject.record.get('site', 'Guys')}-{subject.number:04d}"
        scans = required_scans(subject, "IXI", "t1", *(name for name in ("t2", "pd") if name in subject.images))
        for name, scan in scans.items():
            write(scan, folder / f"{start}-{name.upper()}.nii.gz")
        rows.append(_row(subject))
    _write_table(folder / "IXI.xls", rows)
    return folder


def _row(subject: Subject) -> dict[str, Any]:
    return {
        "IXI_ID": subject.number,
        "SEX_ID (1=m, 2=f)": {"M": 1, "F": 2}.get(subject.record.get("sex", ""), 0),
        "HEIGHT": subject.record.get("height", 0),
        "WEIGHT": subject.record.get("weight", 0),
        "AGE": subject.record.get("age", 0),
    }


def _write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    book = optional_import("xlwt", "tables").Workbook()
    sheet = book.add_sheet("Table")
    for index, row in enumerate((dict(zip(COLUMNS, COLUMNS, strict=True)), *rows)):
        for column, name in enumerate(COLUMNS):
            sheet.write(index, column, row.get(name, ""))
    with atomic_path(path) as staged:
        book.save(str(staged))
