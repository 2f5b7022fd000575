"""Kirby21: twenty-one healthy people, each scanned twice on one day at 3 tesla.

From NITRC (project multimodal), open for research with Landman et al. 2011 to be cited.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Unpack

import datasets

from meddiffusers.datasets.public.building import Options, build
from meddiffusers.datasets.public.finding import Index, Row, scans_by
from meddiffusers.datasets.public.tables import Record, matched, number, read_table, sex

SCAN = re.compile(r"(?P<owner>KKI2009-\d{2})-(?P<modality>MPRAGE|FLAIR|T2)w?\.nii(\.gz)?")
COLUMNS = {"MPRAGE": "t1", "FLAIR": "flair", "T2": "t2"}


def kirby21(folder: str | Path, *, table: str | Path | None = None, **options: Unpack[Options]) -> datasets.DatasetDict:
    """One row a scan session (KKI2009-01 to -42), from a flat folder or one for each session.

    Columns: subject; session ("KKI2009-01"); those of t1, flair and t2 that are there (MPRAGE 170×256×256 voxels of
    1.2×1×1 mm, heads not stripped), None for a session without; age in years and sex ("F", "M"), None where not known.
    table: whose sessions they are; .csv or .xls with the columns `session` (KKI2009-01, or 1) and `subject`, perhaps
    `age` and `sex`, made from the list that comes with the download. File names do not say which two sessions are of
    one person: without the table `subject` is None and nothing is split, so ask for test_fraction=0.

    options: of `Options`.

    Raises:
        ValueError: another layout; a split without a table, or sessions that the table does not name, since the same
            person could be on both sides; and as `build` does.
    """
    found = Index(Path(folder))
    files = scans_by(found.folder, SCAN, COLUMNS)
    records = _records(found, Path(table), files) if table else {}
    modalities = [name for name in COLUMNS.values() if any(name in named for named in files.values())]
    for session, named in files.items():
        record = records.get(session, {})
        subject = record.get("subject", session)
        scans = {name: found.only(subject, f"{session} {name}", named.get(name, [])) for name in modalities}
        found.rows.append(Row(subject, session, scans, {"session": session, "subject": None} | record))
    found.require_rows("Kirby21", "KKI2009-01-MPRAGE.nii")
    unknown = sorted(files.keys() - records.keys())
    if unknown and options.get("test_fraction", 0.2):
        raise ValueError(
            f"Nothing says whose sessions {unknown[0]} and {len(unknown) - 1} more are, so a split could put one "
            "person on both sides; expected a table with the columns session and subject: pass table=, or "
            "test_fraction=0."
        )
    features = {
        **dict.fromkeys(("subject", "session"), datasets.Value("string")),
        **{name: datasets.Nifti() for name in modalities},
        "age": datasets.Value("float64"),
        "sex": datasets.Value("string"),
    }
    return build(found, features, **options)


def _records(found: Index, path: Path, sessions: Collection[str]) -> dict[str, Record]:
    entries = [
        (
            f"KKI2009-{int(given[1]):02d}",
            {"subject": row["subject"], "age": number(row.get("age")), "sex": sex(row.get("sex"))},
        )
        for row in read_table(path, columns=("session", "subject"), text=("session", "subject"))
        if (given := re.fullmatch(r"(?:KKI2009-)?(\d+)(?:\.0)?", row["session"] or "")) and row["subject"]
    ]
    return matched(found, path, entries, sessions)
