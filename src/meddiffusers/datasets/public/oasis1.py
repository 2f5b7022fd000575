"""OASIS-1: 416 subjects aged 18 to 96, 100 of them with very mild to moderate Alzheimer's disease.

Available from oasis-brains.org (discs of scans, and a table) under its data use agreement: research, no
re-identification, acknowledgement (Marcus et al. 2007).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Unpack

import datasets

from meddiffusers.datasets.public.building import Options, build
from meddiffusers.datasets.public.finding import Index, Row, folders_named, scans_named
from meddiffusers.datasets.public.tables import Record, first_table, match_records, read_table, to_number, to_sex

TISSUES = {0: "background", 1: "cerebrospinal fluid", 2: "grey matter", 3: "white matter"}
NUMBERS = {
    "age": "Age", "education": "Educ", "ses": "SES", "mmse": "MMSE", "cdr": "CDR",
    "etiv": "eTIV", "nwbv": "nWBV", "asf": "ASF", "delay": "Delay",
}  # fmt: skip


def oasis1(folder: str | Path, *, table: str | Path | None = None, **options: Unpack[Options]) -> datasets.DatasetDict:
    """Load one row per session; both sessions of the 20 subjects with two stay in one split.

    The Analyze files are converted to NIfTI. Analyze does not define left and right reliably, see `data.io.nifti`.

    Args:
        folder: the unpacked discs.
        table: oasis_cross-sectional.csv (or .xlsx); by default a file of that name in the folder.
        **options: see `Options`.

    Returns:
        Splits with the columns subject ("OAS1_0001"), session ("MR1"); t1 (skull-stripped, bias-corrected, in Talairach
        space: 176×208×176 voxels of 1 mm); seg (FSL's tissues, `TISSUES`), if any session has it; sex ("F", "M"), hand
        ("R", "L"), age in years; education (levels 1 to 5); ses (socio-economic status, 1 high to 5 low); mmse (0 to
        30); cdr (0, 0.5, 1, 2); etiv (intracranial volume, cm³); nwbv (brain volume as a fraction of it); asf (scaling
        to the atlas); delay (days to the second session). Values that the table does not contain are None.

    Raises:
        DatasetError: see `build`.
        ValueError: the folder has another layout; see also `build`.
    """
    index = Index(Path(folder))
    sessions = folders_named(index.folder, r"OAS1_\d{4}_MR\d")
    path = (
        Path(table) if table else first_table(index.folder, "oasis_cross-sectional*.csv", "oasis_cross-sectional*.xlsx")
    )
    records = _records(index, path, sessions) if path else {}
    for name, copies in sessions.items():
        subject, _, session = name.rpartition("_")
        index.single(subject, name, copies)
        images = scans_named(copies[0] / "PROCESSED/MPRAGE/T88_111", f"{name}_mpr_n\\d_anon_111_t88_masked_gfc")
        tissues = scans_named(copies[0] / "FSL_SEG", f"{name}_.*_fseg")
        scans = {
            "t1": index.single(subject, f"{name} T88_111/…_t88_masked_gfc", images, needed=True),
            "seg": index.single(subject, f"{name} FSL_SEG/…_fseg", tissues),
        }
        index.rows.append(Row(subject, name, scans, {"session": session} | records.get(name, {})))
    index.require_rows(
        "OASIS-1",
        "OAS1_0001_MR1/PROCESSED/MPRAGE/T88_111/OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc.hdr",
    )
    columns = ["t1", *(["seg"] if any(row.scans["seg"] for row in index.rows) else [])]
    features = {
        **dict.fromkeys(("subject", "session"), datasets.Value("string")),
        **{name: datasets.Nifti() for name in columns},
        **dict.fromkeys(("sex", "hand"), datasets.Value("string")),
        **dict.fromkeys(NUMBERS, datasets.Value("float64")),
    }
    return build(index, features, label_values={"seg": TISSUES}, **options)


def _records(index: Index, path: Path, sessions: Collection[str]) -> dict[str, Record]:
    rows = read_table(path, columns=("ID", "M/F", "Hand", *NUMBERS.values()))
    entries = [
        (
            row["ID"],
            {"sex": to_sex(row["M/F"]), "hand": row["Hand"]}
            | {name: to_number(row[column]) for name, column in NUMBERS.items()},
        )
        for row in rows
    ]
    return match_records(index, path, entries, sessions)
