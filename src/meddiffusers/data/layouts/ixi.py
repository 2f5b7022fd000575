"""Cases as IXI lays them out, in one flat folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from meddiffusers.data.io import write
from meddiffusers.data.layouts.folders import needed, new_folder
from meddiffusers.data.subject import Subject
from meddiffusers.utils.atomic import replacing
from meddiffusers.utils.optional import optional_import

COLUMNS = (
    "IXI_ID", "SEX_ID (1=m, 2=f)", "HEIGHT", "WEIGHT", "ETHNIC_ID", "MARITAL_ID", "OCCUPATION_ID", "QUALIFICATION_ID",
    "DOB", "DATE_AVAILABLE", "STUDY_DATE", "AGE",
)  # fmt: skip


def write_ixi(cases: Iterable[Subject], folder: str | Path) -> Path:
    """Write the cases one by one, each file whole or not at all, then the table IXI.xls.

    A case needs t1; t2 and pd are written where it has them. Of its record "age", "sex", "height" (cm), "weight" (kg)
    and "site" ("Guys", else "HH" or "IOP") are written, 0 where they are not known.

    Raises:
        FileExistsError: the folder holds something already.
        ValueError: a case without t1.
        ImportError: the extra `tables` is not installed.
    """
    optional_import("xlwt", "tables")
    folder = new_folder(folder)
    rows = []
    for case in cases:
        start = f"IXI{case.number:03d}-{case.record.get('site', 'Guys')}-{case.number:04d}"
        scans = needed(case, "IXI", "t1", *(name for name in ("t2", "pd") if name in case.images))
        for name, scan in scans.items():
            write(scan, folder / f"{start}-{name.upper()}.nii.gz")
        rows.append(_row(case))
    _write_table(folder / "IXI.xls", rows)
    return folder


def _row(case: Subject) -> dict[str, Any]:
    return {
        "IXI_ID": case.number,
        "SEX_ID (1=m, 2=f)": {"M": 1, "F": 2}.get(case.record.get("sex", ""), 0),
        "HEIGHT": case.record.get("height", 0),
        "WEIGHT": case.record.get("weight", 0),
        "AGE": case.record.get("age", 0),
    }


def _write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    book = optional_import("xlwt", "tables").Workbook()
    sheet = book.add_sheet("Table")
    for index, row in enumerate((dict(zip(COLUMNS, COLUMNS, strict=True)), *rows)):
        for column, name in enumerate(COLUMNS):
            sheet.write(index, column, row.get(name, ""))
    with replacing(path) as staged:
        book.save(str(staged))
