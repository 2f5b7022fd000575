"""Check the metadata.csv and metadata.jsonl of a folder of images, and the images, before `datasets` reads them.

`datasets` turns a subject 007 into a number, and leaves decimal commas as text: both are read here again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import PIL.Image

from meddiffusers.datasets.public.splitting import subject_columns
from meddiffusers.datasets.public.tables import Record, columns_of, read_table, resolve_inside, separator_of
from meddiffusers.utils.text import some_of

FILE_NAME = "file_name"

Images = datasets.Dataset | datasets.DatasetDict


def read_image_tables(folder: Path) -> dict[Path, Record]:
    """Read all tables of a folder.

    Returns:
        The row of each image, by its resolved path; without tables none.

    Raises:
        ValueError: a table that is damaged, not separated by commas, or names absent files or none.
    """
    tables = sorted(path for path in folder.rglob("metadata.*") if path.name in ("metadata.csv", "metadata.jsonl"))
    if len({table.suffix for table in tables}) > 1:
        raise ValueError(
            f"{folder} has metadata.csv and metadata.jsonl; expected tables of one kind: remove the others."
        )
    return {path: row for table in tables for path, row in _rows(table)}


def from_tables(split: datasets.Dataset, records: dict[Path, Record], image_column: str) -> datasets.Dataset:
    """The split with its subjects as the tables write them, and with numbers for texts with decimal commas."""
    rows = [records.get(path, {}) for path in paths_of(split, image_column)]
    if not rows or not all(rows):
        return split
    order = split.column_names
    for name in order:
        values = [row.get(name) for row in rows]
        is_text = getattr(split.features[name], "dtype", "") in ("string", "large_string")
        decimals = is_text and any(isinstance(value, float) for value in values)
        if decimals or (subject_columns([name]) and not is_text):
            split = split.remove_columns(name).add_column(name, values)
    return split.select_columns(order)


def paths_of(split: datasets.Dataset, column: str) -> list[Path]:
    """Resolved paths of the images that are files; none of those that are stored in the data set."""
    if not isinstance(split.features[column], datasets.Image):
        return []
    values = split.select_columns([column]).cast_column(column, datasets.Image(decode=False))[column]
    return [Path(value["path"]).resolve() for value in values if value and value["path"] and value["bytes"] is None]


def check_images(split: datasets.Dataset) -> None:
    """Raise ValueError for files that are no images, or damaged ones."""
    columns = [name for name, feature in split.features.items() if isinstance(feature, datasets.Image)]
    for path in dict.fromkeys(path for name in columns for path in paths_of(split, name)):
        if not path.is_file():
            raise ValueError(f"{path}: no such file; expected that which the table names, without blanks around it.")
        try:
            with PIL.Image.open(path) as image:
                frames = getattr(image, "n_frames", 1) if image.format != "MPO" else 1  # whose others are previews
                image.load()
        except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
            raise ValueError(
                f"{path}: damaged, cut short or no image; expected one that can be opened: copy or export it again, or "
                "remove it with its row."
            ) from None
        if frames > 1:
            raise ValueError(f"{path}: {frames} frames or pages; expected one image: save each as a file of its own.")


def _rows(table: Path) -> Iterator[tuple[Path, Record]]:
    """Rows of a table by the path of the row's first file, all files checked."""
    rows = _lines(table) if table.suffix == ".jsonl" else _cells(table)
    columns = [name for name in (rows[0] if rows else ()) if name.endswith(FILE_NAME)]
    if not columns:
        found = f"the columns {', '.join(rows[0])}" if rows else "no rows"
        raise ValueError(f"{table} has {found}; expected {FILE_NAME}, with the name of an image in each row.")
    first = FILE_NAME if FILE_NAME in columns else columns[0]
    if empty := [str(number) for number, row in enumerate(rows, 1) if row.get(first) is None]:
        raise ValueError(f"{table} has rows without {first}: {some_of(empty)}; expected an image in each: remove them.")
    absent = []
    for row in rows:
        for name in (str(row[column]) for column in columns if row.get(column) is not None):
            try:
                path = resolve_inside(table.parent, name)
            except ValueError as error:
                raise ValueError(f"{table}: {error}") from None
            absent += [] if path.is_file() else [name]
    if absent:
        raise ValueError(
            f"{table} names files that do not exist: {some_of({*absent})}; expected them beside or below it."
        )
    for row in rows:
        yield resolve_inside(table.parent, str(row[first])).resolve(), row


def _cells(table: Path) -> list[Record]:
    separator = separator_of(table)
    if separator != ",":
        raise ValueError(
            f"{table} is separated by {separator!r}; expected commas, and points in decimal numbers. Save it again as "
            "CSV with these."
        )
    if table.read_text("utf-8-sig", errors="replace").lstrip().lower().startswith(("sep=", '"sep=')):
        raise ValueError(f"{table} begins with Excel's line sep=,; expected the header in line 1. Remove the line.")
    return read_table(table, text=subject_columns(columns_of(table)))


def _lines(table: Path) -> list[Record]:
    rows = []
    for number, line in enumerate(table.read_text("utf-8", errors="replace").splitlines(), 1):
        try:
            row: Any = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            raise ValueError(f"{table}, line {number}: no JSON; expected an object in each line.") from None
        if row is not None and not isinstance(row, dict):
            raise ValueError(f"{table}, line {number}: a {type(row).__name__}; expected an object in each line.")
        if row is not None and not any(name.endswith((FILE_NAME, f"{FILE_NAME}s")) for name in row):
            raise ValueError(f"{table}, line {number}: no {FILE_NAME}; expected the name of an image in each line.")
        rows += [] if row is None else [row]
    return rows
