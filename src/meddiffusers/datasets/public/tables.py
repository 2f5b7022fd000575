"""Read the tables that come with scans, clean their values, and match their rows with subjects."""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pandas

from meddiffusers.datasets.public.errors import Issue
from meddiffusers.datasets.public.finding import Index
from meddiffusers.utils.numbers import parse_number
from meddiffusers.utils.optional import optional_import
from meddiffusers.utils.text import some_of

SEPARATORS = (",", ";", "\t", "|")
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)(e[-+]?\d+)?", re.IGNORECASE)
_COMMA = re.compile(r"[-+]?(\d+,\d*|,\d+)(e[-+]?\d+)?", re.IGNORECASE)
_SEPARATOR = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # Excel's line before the header
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+|[-+]?\d{1,3}(\.\d{3})+,\d+")

Record = dict[str, Any]


def read_table(
    path: Path, *, columns: Iterable[str] = (), text: Collection[str] = (), sheet: str | int = 0
) -> list[Record]:
    """Read a table as one dictionary per row; empty cells and "NA" are None.

    Text files may be separated by commas, semicolons or tabs. A column of numbers with decimal commas becomes numbers.

    Args:
        path: .csv, .tsv, .xls or .xlsx.
        columns: required columns.
        text: columns to read as text, so that "007" is kept.
        sheet: name or number of the sheet of a workbook.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: unknown format, damaged file, missing column, two columns of one name, or commas that may be
            decimal or of thousands.
        ImportError: the library that reads .xls or .xlsx is not installed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such table.")
    table = _frame(path, dict.fromkeys(text, str), sheet)
    table.columns = _names(path, sheet, table)
    semicolons = path.suffix.lower() == ".csv" and separator_of(path) == ";"  # as where decimals have commas
    for name in table.columns.difference([*text]):
        table[name] = _with_points(table[name], f"{path}, column {name}", semicolons)
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}; it has {', '.join(table.columns)}. Rename one.")
    cleaned = table.astype(object).where(table.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in cleaned.to_dict("records")]


def columns_of(path: Path) -> list[str]:
    """Names of a table's columns; raises as `read_table`."""
    return [*next(iter(read_table(path)), {})]


def separator_of(path: Path) -> str:
    """The character that separates the columns of a text file: Excel's "sep=", or the most frequent of line 1."""
    return _layout(path)[0]


def _layout(path: Path) -> tuple[str, int]:
    """The separator of a text file, and how many lines precede its header."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        number, line = next(((number, line) for number, line in enumerate(file) if line.strip()), (0, ""))
    if said := _SEPARATOR.fullmatch(line):
        return said[1], number + 1
    header = re.sub(r'"[^"]*"', "", line)
    default = "\t" if path.suffix.lower() == ".tsv" else ","
    return max((default, *SEPARATORS), key=header.count), 0


def read_info(
    index: Index, subject: str, path: Path, kinds: Mapping[str, Callable[[str], Any]], required: Collection[str]
) -> Record:
    """Read a .cfg file of lines such as "ED: 1".

    Args:
        index: gets an issue for each required value that is missing or invalid; others are left out.
        subject: that the file is of.
        path: of the file.
        kinds: what converts the text of each value.
        required: values that are whole numbers and must be there.
    """
    lines = (line.partition(":") for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    stated = {key.strip(): value.strip() for key, _, value in lines}
    info: Record = {}
    for key, kind in kinds.items():
        try:
            info[key] = kind(stated[key])
        except (KeyError, ValueError):
            if key in required:
                index.issues.append(
                    Issue(subject, f"{path.name}: no whole number {key}; expected a line such as {key}: 1")
                )
    return info


def first_table(folder: Path, *names: str) -> Path | None:
    """Path of the first of the names that exists at any depth of the folder."""
    return next((path for name in names for path in sorted(folder.rglob(name)) if path.is_file()), None)


def match_records(
    index: Index, table: Path, entries: Iterable[tuple[str, Record]], names: Collection[str]
) -> dict[str, Record]:
    """Match the records of a table with the rows or subjects in `names`.

    A name with several records keeps the values that agree; others become None. Duplicate names, and names that only
    the table or only the folder contains, are noted in the index.
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
            index.notes.append(f"{table.name} {what.format(some_of(these))}")
    return {name: record for name, record in records.items() if name in names}


def to_number(value: Any, *, zero_is_missing: bool = False) -> float | None:
    """Convert to a finite number; None if the value is not numeric."""
    try:
        result = parse_number(value) if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        return None
    return None if not math.isfinite(result) or (zero_is_missing and result == 0) else result


def to_sex(value: Any) -> str | None:
    """Convert a letter, a word, or the codes 1 (male) and 2 (female) to "F" or "M"; else None."""
    codes = {"F": "F", "FEMALE": "F", "2": "F", "M": "M", "MALE": "M", "1": "M"}
    return codes.get(str(value).strip().upper().removesuffix(".0"))


def resolve_inside(folder: Path, name: str) -> Path:
    """Path of a file that a table names; ValueError if it is not below the folder."""
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
            text = _as_text(path)
            with warnings.catch_warnings():
                warnings.simplefilter("error", pandas.errors.ParserWarning)
                return pandas.read_csv(path, dtype=types, index_col=False, **text)
        if ending in (".xls", ".xlsx"):
            return pandas.read_excel(path, sheet_name=sheet, dtype=types)
    except ImportError:
        raise
    except pandas.errors.ParserWarning:
        raise ValueError(
            f"{path} has rows with more cells than its header; expected as many. Put numbers with a decimal comma, and "
            "texts with commas, into quotes, or separate the cells by semicolons."
        ) from None
    except Exception as error:  # pandas and its engines raise various exceptions
        kind = type(error).__name__  # the message may contain patient data
        wide = " with as many cells in each row as in its header" if kind == "ParserError" else ""
        raise ValueError(
            f"{path} is no table that can be read ({kind}); expected one{wide}: save it again as CSV in UTF-8."
        ) from None
    raise ValueError(f"{path} is no table of a known kind; expected .csv, .tsv, .xls or .xlsx.")


def _as_text(path: Path) -> dict[str, Any]:
    """What pandas needs to know of a text file."""
    separator, skipped = _layout(path)
    return {"sep": separator, "encoding": "utf-8-sig", "skipinitialspace": True, "skiprows": skipped}


def _names(path: Path, sheet: str | int, table: pandas.DataFrame) -> list[str]:
    """Names of the columns; ValueError for two of one name, which pandas numbers silently."""
    if path.suffix.lower() in (".csv", ".tsv"):
        header = pandas.read_csv(path, header=None, nrows=1, dtype=str, **_as_text(path))
    else:
        header = pandas.read_excel(path, sheet_name=sheet, header=None, nrows=1, dtype=str)
    counts = Counter(str(name).strip() for name in header.iloc[0].dropna()) if len(header) else Counter[str]()
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ValueError(f"{path} has several columns called {some_of(twice)}; expected each name once. Rename them.")
    return [str(name).strip() for name in table.columns]


def _with_points(column: pandas.Series, where: str, semicolons: bool) -> pandas.Series:
    """Numbers for a column of texts that are all numbers, some with a decimal comma; other columns as they are."""
    texts = [value.strip() for value in column if isinstance(value, str)]
    commas = [text for text in texts if "," in text]
    if not commas or not all(_NUMBER.fullmatch(text) or _THOUSANDS.fullmatch(text) for text in texts):
        return column
    thousands = [text for text in commas if _THOUSANDS.fullmatch(text)]
    decimal = semicolons and all(_COMMA.fullmatch(text) for text in commas)
    if (len(thousands) == len(commas) and not decimal) or not all(_COMMA.fullmatch(text) for text in commas):
        raise ValueError(
            f"{where} holds {thousands[0]!r}, whose comma or point may be of decimals or of thousands; expected "
            "numbers with a point for decimals and nothing for thousands. Save the table again."
        )
    return column.map(lambda value: float(value.replace(",", ".")) if isinstance(value, str) else value)
