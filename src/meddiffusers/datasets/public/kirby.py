"""Kirby21: twenty-one healthy subjects, each scanned twice on one day at 3 tesla.

Available from NITRC (project multimodal), open for research with citation of Landman et al. 2011.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Unpack

import datasets

from meddiffusers.datasets.public.building import Options, build
from meddiffusers.datasets.public.finding import Index, Row, scans_by
from meddiffusers.datasets.public.tables import Record, match_records, read_table, to_number, to_sex

SCAN = re.compile(r"(?P<owner>KKI2009-\d{2})-(?P<modality>MPRAGE|FLAIR|T2)w?\.nii(\.gz)?")
COLUMNS = {"MPRAGE": "t1", "FLAIR": "flair", "T2": "t2"}


def kirby21(folder: str | Path, *, table: str | Path | None = None, **options: Unpack[Options]) -> datasets.DatasetDict:
    """Load one row per session (KKI2009-01 to -42), from a flat folder or one folder per session.

    Args:
        folder: the unpacked download.
        table: subject of each session: .csv or .xls with the columns `session` (KKI2009-01, or 1) and `subject`,
            optionally `age` and `sex`, made from the list that comes with the download. File names do not give the
            subject: without the table `subject` is None and the sessions cannot be split, so set test_fraction=0.
        **options: see `Options`.

    Returns:
        Splits with the columns subject; session ("KKI2009-01"); those of t1, flair and t2 that are in the folder
        (MPRAGE 170×256×256 voxels of 1.2×1×1 mm, with the skull), None for sessions without; age in years and sex
        ("F", "M"), None if unknown.

    Raises:
        DatasetError: see `build`.
        ValueError: the folder has another layout; a split without a table, or with sessions that are not in the table,
            since one subject could be in both splits; see also `build`.
    """
    index = Index(Path(folder))
    files = scans_by(index.folder, SCAN, COLUMNS)
    records = _records(index, Path(table), files) if table else {}
    modalities = [name for name in COLUMNS.values() if any(name in named for named in files.values())]
    for session, named in files.items():
        record = records.get(session, {})
        subject = record.get("subject", session)
        scans = {name: index.single(subject, f"{session} {name}", named.get(name, [])) for name in modalities}
        index.rows.append(Row(subject, session, scans, {"session": session, "subject": None} | record))
    index.require_rows("Kirby21", "KKI2009-01-MPRAGE.nii")
    unknown = sorted(files.keys() - records.keys())
    if unknown and options.get("test_fraction", 0.2):
        raise ValueError(
            f"The subjects of session {unknown[0]} and {len(unknown) - 1} more are unknown, so a split could put one "
            "subject into both parts; expected a table with the columns session and subject: pass table=, or "
            "test_fraction=0."
        )
    features = {
        **dict.fromkeys(("subject", "session"), datasets.Value("string")),
        **{name: datasets.Nifti() for name in modalities},
        "age": datasets.Value("float64"),
        "sex": datasets.Value("string"),
    }
    return build(index, features, **options)


def _records(index: Index, path: Path, sessions: Collection[str]) -> dict[str, Record]:
    entries = [
        (
            f"KKI2009-{int(given[1]):02d}",
            {"subject": row["subject"], "age": to_number(row.get("age")), "sex": to_sex(row.get("sex"))},
        )
        for row in read_table(path, columns=("session", "subject"), text=("session", "subject"))
        if (given := re.fullmatch(r"(?:KKI2009-)?(\d+)(?:\.0)?", row["session"] or "")) and row["subject"]
    ]
    return match_records(index, path, entries, sessions)
