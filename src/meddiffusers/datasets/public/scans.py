"""Anyone's own scans: a folder, with a table or without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import datasets

from meddiffusers.datasets.public.building import Options, build
from meddiffusers.datasets.public.errors import Issue
from meddiffusers.datasets.public.finding import Index, Row
from meddiffusers.datasets.public.grouping import IMAGE, group, scans_below
from meddiffusers.datasets.public.tables import confined, read_table
from meddiffusers.utils.text import some_of

FILE_NAME = "file_name"


def load_scans(
    folder: str | Path, table: str | Path | None = None, *, subject_column: str = "subject", **options: Unpack[Options]
) -> datasets.DatasetDict:
    """Scans in any format that `data.io.read` takes; a folder with DICOM files is one scan. All but NIfTI become NIfTI.

    table: .csv, .tsv, .xls or .xlsx, a row for each row of the result. As in `datasets`' folders, the column file_name
        gives the scan of the column image, and a column <name>_file_name that of the column <name>, as a path from
        `folder` (of a file or a DICOM folder; empty for none). `subject_column` says whose scans they are; it becomes
        the column subject. All other columns stay as they are.

    Without a table a row is what has one name but for the modality in it (`modality_in`): patient7_t1.nii.gz and
    patient7_flair.nii.gz give one row with the columns subject, t1 and flair; label maps are the column labels, scans
    without a modality the column image. The subject is the outermost folder that differs between the scans and names no
    modality, else that name. So several sessions of one patient need a folder of the patient, or a table, to stay on
    one side of the split.

    File names and the table's columns are taken into the data set as they are: they must not identify a patient.

    options: of `Options`. Raises as `build` does, and ValueError where there are no scans or the table lacks a column.
    """
    found = Index(Path(folder))
    if table is None:
        features = {name: datasets.Nifti() for name in group(found)}
    else:
        features = _add_rows(found, Path(table), subject_column)
    found.require_rows("your own scans", "patient7_t1.nii.gz, patient7/t1.mha or patient7/t1/0001.dcm")
    return build(found, {"subject": datasets.Value("string"), **features}, **options)


def _add_rows(found: Index, table: Path, subject_column: str) -> dict[str, Any]:
    """Add the table's rows to what was found, and return the features of all columns but the subject."""
    records = read_table(table, columns=(subject_column,), text=(subject_column,))
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
    for index, record in enumerate(records):
        subject = record[subject_column] or f"row {index + 1}"
        if record[subject_column] is None:
            found.issues.append(Issue(subject, f"no {subject_column} in {table.name}; expected whose scan it is"))
        paths = {column: _path(found, subject, record[name]) for name, column in scans.items()}
        for path in paths.values():
            if path and owners.setdefault(path, subject) != subject:
                found.issues.append(
                    Issue(subject, f"{path.name} is the scan of {owners[path]} too; expected one owner")
                )
        others = {
            name: str(record[name]) if kind == "string" and record[name] is not None else record[name]
            for name, kind in kinds.items()
        }
        found.rows.append(Row(subject, f"{subject} {index:06d}", paths, others))
    _note_unused(found, table)
    return dict.fromkeys(scans.values(), datasets.Nifti()) | {
        name: datasets.Value(kind) for name, kind in kinds.items()
    }


def _path(found: Index, subject: str, name: Any) -> Path | None:
    """The scan that a cell names; a issue where there is none, or where it lies outside the folder."""
    if name is None:
        return None
    try:
        path = confined(found.folder, str(name))
    except ValueError as error:
        found.issues.append(Issue(subject, str(error)))
        return None
    if path.exists():
        return path
    found.issues.append(Issue(subject, f"no {name}, which the table names; expected it below the folder"))
    return None


def _note_unused(found: Index, table: Path) -> None:
    used = {path for row in found.rows for path in row.scans.values()}
    unused = [str(path.relative_to(found.folder)) for path in scans_below(found.folder) if path not in used]
    if unused:
        found.notes.append(f"{table.name} has no row for {some_of(unused)}")


def _kind(values: Sequence[Any]) -> str:
    """The type of `datasets` that holds all of the values."""
    types = {type(value) for value in values if value is not None}
    if types in ({bool}, {int}):
        return "bool" if types == {bool} else "int64"
    return "float64" if types and types <= {int, float} else "string"
