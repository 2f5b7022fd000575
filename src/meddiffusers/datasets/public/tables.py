"""Tables that come with scans: read, cleaned and matched with the rows they speak of."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pandas

from meddiffusers.datasets.public.finding import Index
from meddiffusers.utils.optional import optional_import
from meddiffusers.utils.text import some_of

Record = dict[str, Any]


def read_table(
    path: Path, *, columns: Iterable[str] = (), text: Collection[str] = (), sheet: str | int = 0
) -> list[Record]:
    """The rows of a table, .csv, .tsv, .xls or .xlsx, by column name; None where a cell is empty or "NA".

    columns: those that must be there; text: those that are not to be taken for numbers, so that "007" stays so.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another format, a damaged file or one that lacks a column.
        ImportError: the library that reads .xls or .xlsx is not installed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such table.")
    table = _frame(path, dict.fromkeys(text, str), sheet)
    table.columns = [str(name).strip() for name in table.columns]
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}; it has {', '.join(table.columns)}. Rename one.")
    cleaned = table.astype(object).where(table.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in cleaned.to_dict("records")]


def first_table(folder: Path, *names: str) -> Path | None:
    """The first of the names that is a file at any depth of the folder."""
    return next((path for name in names for path in sorted(folder.rglob(name)) if path.is_file()), None)


def matched(
    found: Index, table: Path, entries: Iterable[tuple[str, Record]], names: Collection[str]
) -> dict[str, Record]:
    """The records of a table by the name of the row or subject they are of, for those in `names`.

    A name that occurs more than once keeps the values on which all agree; others become None. That, and names which
    only the table or only the folder has, are noted.
    """
    records: dict[str, Record] = {}
    double = set[str]()
    for name, record in entries:
        if name in records:
            double.add(name)
            record = {key: value if records[name].get(key) == value else None for key, value in record.items()}
        records[name] = record
    for these, what in (
        (double, "has more than one row for {}; values on which they disagree are left out"),
        (records.keys() - set(names), "has rows without scans: {}"),
        (set(names) - records.keys(), "has no row for {}"),
    ):
        if these:
            found.notes.append(f"{table.name} {what.format(some_of(these))}")
    return {name: record for name, record in records.items() if name in names}


def number(value: Any, *, zero_is_missing: bool = False) -> float | None:
    """The value as a number, or None where it is none."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        return None
    return None if zero_is_missing and result == 0 else result


def sex(value: Any) -> str | None:
    """ "F" or "M" from a letter, a word, or 1 for male and 2 for female; else None."""
    codes = {"F": "F", "FEMALE": "F", "2": "F", "M": "M", "MALE": "M", "1": "M"}
    return codes.get(str(value).strip().upper().removesuffix(".0"))


def confined(folder: Path, name: str) -> Path:
    """The path of a file that a table names, which must stay below the folder; ValueError where it would not."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or PureWindowsPath(name).drive or ".." in parts.parts or not parts.parts:
        raise ValueError(f"the table names {name!r}; expected a path below the folder, without '..'")
    return folder / parts


def _frame(path: Path, types: Mapping[str, type], sheet: str | int) -> pandas.DataFrame:
    ending = path.suffix.lower()
    if ending == ".xls":
        optional_import("xlrd", "tables")
    try:
        if ending in (".csv", ".tsv"):
            text = {"sep": "\t" if ending == ".tsv" else ",", "encoding": "utf-8-sig", "skipinitialspace": True}
            return pandas.read_csv(path, dtype=types, index_col=False, **text)
        if ending in (".xls", ".xlsx"):
            return pandas.read_excel(path, sheet_name=sheet, dtype=types)
    except ImportError:
        raise
    except Exception as error:  # pandas and its engines raise kinds of their own
        kind = type(error).__name__  # its text may quote a patient
        raise ValueError(f"{path} is no table that can be read ({kind}); expected one: save it again as CSV.") from None
    raise ValueError(f"{path} is no table of a known kind; expected .csv, .tsv, .xls or .xlsx.")
