"""OASIS-3: longitudinal study of more than a thousand subjects aged 42 to 95.

Available from oasis-brains.org through NITRC-IR or its scripts, in BIDS layout, under its data use agreement: research,
no re-identification, acknowledgement (LaMontagne et al. 2019).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Unpack

import datasets

from meddiffusers.datasets.public.building import Options, build
from meddiffusers.datasets.public.finding import Index, Row, below
from meddiffusers.datasets.public.tables import Record, first_table, match_records, read_table, to_number, to_sex

SCAN = re.compile(
    r"sub-(?P<subject>OAS3\d+)_ses-(?P<session>d(?P<days>\d+))_(.*_)?(?P<modality>T1w|T2w|FLAIR)\.nii(\.gz)?"
)
DAYS_A_YEAR = 365.25


def oasis3(folder: str | Path, *, table: str | Path | None = None, **options: Unpack[Options]) -> datasets.DatasetDict:
    """Load one row per session; all sessions of a subject stay in one split.

    Args:
        folder: the download in BIDS layout.
        table: OASIS3_demographics.csv; by default a file of that name in the folder.
        **options: see `Options`.

    Returns:
        Splits with the columns subject ("OAS30001"), session ("d0129"), days since entry; those of t1, t2 and flair
        that are in the folder (T1 about 176×256×256 voxels of 1 mm, with the skull, defaced), None for sessions
        without, and the first of several runs; age in years at the session (age at entry + days / 365.25) and sex
        ("F", "M"), None if unknown.

    Raises:
        DatasetError: see `build`.
        ValueError: the folder has another layout; see also `build`.
    """
    index = Index(Path(folder))
    sessions = _sessions(index.folder)
    path = Path(table) if table else first_table(index.folder, "OASIS3_demographics.csv")
    records = _records(index, path, {subject for subject, _ in sessions}) if path else {}
    modalities = [name for name in ("t1", "t2", "flair") if any(name in runs for runs in sessions.values())]
    for (subject, session), runs in sessions.items():
        days = int(session[1:])
        known = records.get(subject, {"entry": None, "sex": None})
        age = None if known["entry"] is None else known["entry"] + days / DAYS_A_YEAR
        record = {"session": session, "days": days, "age": age, "sex": known["sex"]}
        scans = {name: next(iter(runs.get(name, [])), None) for name in modalities}
        index.rows.append(Row(subject, f"{subject} {session}", scans, record))
    index.require_rows("OASIS-3", "sub-OAS30001/ses-d0129/anat/sub-OAS30001_ses-d0129_T1w.nii.gz")
    features = {
        **dict.fromkeys(("subject", "session"), datasets.Value("string")),
        "days": datasets.Value("int64"),
        **{name: datasets.Nifti() for name in modalities},
        "age": datasets.Value("float64"),
        "sex": datasets.Value("string"),
    }
    return build(index, features, **options)


def _sessions(folder: Path) -> dict[tuple[str, str], dict[str, list[Path]]]:
    """Runs of each modality, sorted, by subject and session."""
    sessions: dict[tuple[str, str], dict[str, list[Path]]] = {}
    for path in sorted(below(folder), key=lambda path: path.name):
        if name := SCAN.fullmatch(path.name):
            modality = name["modality"].lower().removesuffix("w")
            runs = sessions.setdefault((name["subject"], name["session"]), {})
            runs.setdefault(modality, []).append(path)
    return sessions


def _records(index: Index, path: Path, subjects: Collection[str]) -> dict[str, Record]:
    rows = read_table(path, columns=("OASISID", "AgeatEntry", "GENDER"))
    entries = [(row["OASISID"], {"entry": to_number(row["AgeatEntry"]), "sex": to_sex(row["GENDER"])}) for row in rows]
    return match_records(index, path, entries, subjects)
