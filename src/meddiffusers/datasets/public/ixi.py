"""IXI: nearly 600 healthy subjects from three London hospitals, aged 20 to 86.

Available from brain-development.org, licence CC BY-SA 3.0: one archive per modality, and the table IXI.xls.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Unpack

import datasets

from meddiffusers.datasets.public.building import Options, build
from meddiffusers.datasets.public.finding import Index, Row, scans_by
from meddiffusers.datasets.public.tables import Record, first_table, match_records, read_table, to_number, to_sex

FIELD_STRENGTHS = {"Guys": 1.5, "HH": 3.0, "IOP": 1.5}  # tesla
SCAN = re.compile(r"(?P<owner>IXI\d{3})-(?P<site>[A-Za-z]+)-\d{4}-(?P<modality>T1|T2|PD)\.nii(\.gz)?")
COLUMNS = {"T1": "t1", "T2": "t2", "PD": "pd"}
SEX = "SEX_ID (1=m, 2=f)"


def ixi(folder: str | Path, *, table: str | Path | None = None, **options: Unpack[Options]) -> datasets.DatasetDict:
    """Load one row per subject, from a flat folder or from one folder per modality.

    Args:
        folder: the unpacked downloads.
        table: IXI.xls (extra `tables`), or its sheet "Table" as .csv or .xlsx; by default IXI.* in the folder.
        **options: see `Options`.

    Returns:
        Splits with the columns subject ("IXI002"); those of t1, t2 and pd that are in the folder (T1 about 256×256×150
        voxels of 0.94×0.94×1.2 mm; T2 and PD 256×256×130 of 0.94×0.94×1.25 mm and on one grid; with the skull), None
        for subjects without; site; field_strength in tesla; age in years, sex ("F", "M"), height in cm and weight in
        kg, None if unknown.

    Raises:
        DatasetError: see `build`.
        ValueError: the folder has another layout; see also `build`.
    """
    index = Index(Path(folder))
    files = scans_by(index.folder, SCAN, COLUMNS)
    path = Path(table) if table else first_table(index.folder, "IXI.xls", "IXI.xlsx", "IXI.csv")
    records = _records(index, path, files) if path else {}
    modalities = [name for name in COLUMNS.values() if any(name in scans for scans in files.values())]
    for subject, named in files.items():
        scans = {name: index.single(subject, name, named.get(name, [])) for name in modalities}
        site = next(iter(named.values()))[0].name.split("-")[1]
        place = {"site": site, "field_strength": FIELD_STRENGTHS.get(site)}
        index.rows.append(Row(subject, subject, scans, place | records.get(subject, {})))
    index.require_rows("IXI", "IXI002-Guys-0828-T1.nii.gz or IXI-T1/IXI002-Guys-0828-T1.nii.gz")
    features = {
        "subject": datasets.Value("string"),
        **{name: datasets.Nifti() for name in modalities},
        "site": datasets.Value("string"),
        **dict.fromkeys(("field_strength", "age"), datasets.Value("float64")),
        "sex": datasets.Value("string"),
        **dict.fromkeys(("height", "weight"), datasets.Value("float64")),
    }
    return build(index, features, **options)


def _records(index: Index, path: Path, subjects: Collection[str]) -> dict[str, Record]:
    """Read the table, in which ids are not padded and occur more than once, and 0 stands for a missing number."""
    sheet = "Table" if path.suffix != ".csv" else 0
    rows = read_table(path, columns=("IXI_ID", SEX, "HEIGHT", "WEIGHT", "AGE"), sheet=sheet)
    entries = [
        (
            f"IXI{int(identity):03d}",
            {
                "age": to_number(row["AGE"], zero_is_missing=True),
                "sex": to_sex(row[SEX]),
                "height": to_number(row["HEIGHT"], zero_is_missing=True),
                "weight": to_number(row["WEIGHT"], zero_is_missing=True),
            },
        )
        for row in rows
        if (identity := to_number(row["IXI_ID"])) is not None
    ]
    return match_records(index, path, entries, subjects)
