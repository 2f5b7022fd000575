"""Users' own scans: a folder, with or without a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import datasets

from meddiffusers.datasets.public.building import Options, build
from meddiffusers.datasets.public.errors import Issue
from meddiffusers.datasets.public.finding import Index, Row
from meddiffusers.datasets.public.grouping import IMAGE, group, scans_below
from meddiffusers.datasets.public.splitting import subject_column as named_subject
from meddiffusers.datasets.public.splitting import subject_columns
from meddiffusers.datasets.public.tables import Record, columns_of, read_table, resolve_inside
from meddiffusers.utils.text import some_of

FILE_NAME = "file_name"


def load_scans(
    folder: str | Path,
    table: str | Path | None = None,
    *,
    subject_column: str | None = None,
    **options: Unpack[Options],
) -> datasets.DatasetDict:
    """Load scans in any format that `data.io.read` reads; a folder with DICOM files is one scan.

    Without a table, files whose names differ only in the modality (`data.modalities`) form a row: patient7_t1.nii.gz
    and patient7_flair.nii.gz give one row with the columns subject, t1 and flair. Label maps go into the column labels,
    scans without a modality into the column image. The subject is that of a BIDS name, else the outermost folder that
    differs between the scans, else the name without words on the image: patient7_T2_to_T1 is a scan of patient7.
    Folders of modalities, splits (train, test), classes and visits are no subjects, and visits, dates, sides and
    repetitions in a name make no other one: patient7_visit1 and patient7_visit2 are patient7. What names leave open is
    logged; a table, or a folder for each patient, settles it.

    File names and the table's columns are copied into the data set: they must not identify a patient.

    Args:
        folder: with scans at any depth; formats other than NIfTI are converted.
        table: .csv, .tsv, .xls or .xlsx with one row per row of the result. As in `datasets`' folders, the column
            file_name gives the scan of the column image, and a column <name>_file_name that of the column <name>, as a
            path relative to `folder` (a file or a DICOM folder; empty for none). All other columns are kept.
        subject_column: the table's column of subjects, which becomes the column subject; by default the one that is
            named so, see `splitting`.
        **options: see `Options`.

    Raises:
        DatasetError: a name that says several modalities; see also `build`.
        ValueError: there are no scans, or the table lacks a column; see also `build`.

    Example:
        >>> data = load_scans("scans", "scans.csv", test_fraction=0.1)
        >>> data["train"][0]["image"].shape
        (256, 256, 24)
    """
    index = Index(Path(folder))
    if table is None:
        features = {name: datasets.Nifti() for name in group(index)}
    else:
        features = _add_rows(index, Path(table), subject_column)
    index.require_rows("your own scans", "patient7_t1.nii.gz, patient7/t1.mha or patient7/t1/0001.dcm")
    return build(index, {"subject": datasets.Value("string"), **features}, **options)


def _add_rows(index: Index, table: Path, subject_column: str | None) -> dict[str, Any]:
    """Add the table's rows to the index, and return the features of all columns except the subject."""
    records, subject_column = _records(table, subject_column)
    names = list(records[0]) if records else []
    scans = {name: name.removesuffix(FILE_NAME).rstrip("_") or IMAGE for name in names if name.endswith(FILE_NAME)}
    values = {name: [record[name] for record in records] for name in names if name not in (*scans, subject_column)}
    if records and (not scans or {"subject", *scans.values()} & values.keys()):
        raise ValueError(
            f"{table} has the columns {', '.join(names)}; expected {FILE_NAME} or <name>_{FILE_NAME}, and no other "
            "column called image, <name> or subject. Rename some."
        )
    kinds = {name: _kind(column) for name, column in values.items()}
    owners: dict[Path, str] = {}
    seen = set[tuple[Any, ...]]()
    for number, record in enumerate(records):
        subject = (record[subject_column] or "").strip() or f"row {number + 1}"
        if record[subject_column] is None:
            index.issues.append(Issue(subject, f"no {subject_column} in {table.name}; expected whose scan it is"))
        paths = {column: _path(index, subject, record[name]) for name, column in scans.items()}
        for path in paths.values():
            if path and owners.setdefault(path, subject) != subject:
                index.issues.append(
                    Issue(subject, f"{path.name} is the scan of {owners[path]} too; expected one owner")
                )
        scanned = (subject, *paths.values())
        if scanned in seen and any(scanned[1:]):
            twice = ", ".join(path.name for path in paths.values() if path)
            index.issues.append(Issue(subject, f"{twice} in two rows of {table.name}; expected one: remove the other"))
        seen.add(scanned)
        others = {
            name: str(record[name]) if kind == "string" and record[name] is not None else record[name]
            for name, kind in kinds.items()
        }
        index.rows.append(Row(subject, f"{subject} {number:06d}", paths, others))
    _note_unused(index, table)
    return dict.fromkeys(scans.values(), datasets.Nifti()) | {
        name: datasets.Value(kind) for name, kind in kinds.items()
    }


def _records(table: Path, subject_column: str | None) -> tuple[list[Record], str]:
    """The rows of the table, subjects as text, and the column that names them."""
    named = [subject_column] if subject_column else subject_columns(columns_of(table)) or ["subject"]
    records = read_table(table, columns=named, text=named)
    columns = {name: [record[name] for record in records] for name in named}
    return records, subject_column or named_subject(columns, str(table)) or "subject"


def _path(index: Index, subject: str, name: Any) -> Path | None:
    """Path of the scan in a cell; adds an issue if it does not exist or is outside the folder."""
    if name is None:
        return None
    try:
        path = resolve_inside(index.folder, str(name))
    except ValueError as error:
        index.issues.append(Issue(subject, str(error)))
        return None
    if path.exists():
        return path
    index.issues.append(Issue(subject, f"no {name}, which the table names; expected it below the folder"))
    return None


def _note_unused(index: Index, table: Path) -> None:
    used = {path for row in index.rows for path in row.scans.values()}
    unused = [str(path.relative_to(index.folder)) for path in scans_below(index.folder) if path not in used]
    if unused:
        index.notes.append(f"{table.name} has no row for {some_of(unused)}")


def _kind(values: Sequence[Any]) -> str:
    """Name of the `datasets` type that represents all values."""
    types = {type(value) for value in values if value is not None}
    if types in ({bool}, {int}):
        return "bool" if types == {bool} else "int64"
    return "float64" if types and types <= {int, float} else "string"
