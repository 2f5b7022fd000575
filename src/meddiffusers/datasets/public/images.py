"""Users' own images: a folder with metadata.csv, a saved data set, or a repository of the Hub; and their colours."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image

from meddiffusers.datasets.public.tables import read_table, resolve_inside, separator_of
from meddiffusers.utils.text import some_of

FILE_NAME = "file_name"
_SAVED = ("dataset_dict.json", "state.json")  # files of a data set that was saved


def load_images(name: str | Path, image_column: str) -> datasets.DatasetDict:
    """Load a data set of images.

    Args:
        name: a folder of images (optionally with metadata.csv), a data set that was saved, or a repository of the Hub.
        image_column: column of the images.

    Raises:
        ValueError: a metadata.csv that is damaged, not separated by commas, or names absent files or none; a missing
            column, or files named twice.
    """
    folder = Path(name)
    if any((folder / file).is_file() for file in _SAVED):
        data = datasets.load_from_disk(str(name))
    elif folder.is_dir() and all(path.name == "metadata.parquet" for path in folder.rglob("*.parquet")):
        for table in sorted(folder.rglob("metadata.csv")):
            _check_table(table)
        data = datasets.load_dataset("imagefolder", data_dir=str(name))
    else:
        data = datasets.load_dataset(str(name))
    data = data if isinstance(data, datasets.DatasetDict) else datasets.DatasetDict(train=data)
    for split in data.values():
        if image_column not in split.column_names:
            raise ValueError(
                f"{name} has no column {image_column!r}; it has {', '.join(split.column_names)}. Set image_column."
            )
    _check_named_once(data, image_column, str(name))
    return data


def to_channels(image: Any, channels: int) -> np.ndarray:
    """Convert an image to as many channels as a network takes.

    With one channel, images whose colours are all grey become grey, exactly; coloured ones are refused, as every
    weighting of colours would be a guess. With three channels, grey images become colours. Others stay as they are.

    Args:
        image: PIL image, or an array (H, W), (H, W, C) or (C, H, W).
        channels: 1 for grey values, 3 for colours, or more.

    Returns:
        (H, W) for one channel, else as given.

    Raises:
        ValueError: colours where grey values are expected.
    """
    if isinstance(image, PIL.Image.Image) and (image.mode in ("P", "PA", "CMYK", "YCbCr") or channels == 3):
        image = image.convert("RGB") if image.mode not in _DEEP else image
    array = np.asarray(image)
    if channels != 1 or array.ndim != 3 or array.shape[0] == 1:
        return array
    colours = array[..., :3] if array.shape[2] in (3, 4) else array[..., :1] if array.shape[2] == 2 else array
    if colours.shape[2] not in (1, 3):
        return array
    if (colours != colours[..., :1]).any():
        raise ValueError(
            "an image with colours; expected grey values. Convert it (image.convert('L') for one weighting of the "
            "colours), or use three channels."
        )
    if array.shape[2] in (2, 4) and (array[..., -1] != np.iinfo(array.dtype).max).any():
        raise ValueError("a transparent image; expected grey values. Flatten it onto a background.")
    return colours[..., 0]


_DEEP = ("I", "I;16", "F")  # modes whose values colours would cut off


def _check_table(table: Path) -> None:
    """Raise ValueError for a table of images that `datasets` cannot read, or whose files do not exist."""
    separator = separator_of(table)
    if separator != ",":
        raise ValueError(
            f"{table} is separated by {separator!r}; expected commas, and points in decimal numbers. Save it again as "
            "CSV with these."
        )
    rows = read_table(table)
    columns = [name for name in (rows[0] if rows else ()) if name.endswith(FILE_NAME)]
    if not columns:
        found = f"the columns {', '.join(rows[0])}" if rows else "no rows"
        raise ValueError(f"{table} has {found}; expected {FILE_NAME}, with the name of an image in each row.")
    names = {str(row[column]) for row in rows for column in columns if row[column] is not None}
    try:
        absent = [name for name in names if not resolve_inside(table.parent, name).is_file()]
    except ValueError as error:
        raise ValueError(f"{table}: {error}") from None
    if absent:
        raise ValueError(f"{table} names files that do not exist: {some_of(absent)}; expected them beside or below it.")


def _check_named_once(data: datasets.DatasetDict, column: str, source: str) -> None:
    """Raise ValueError if rows name one file: it could be in both splits."""
    paths = Counter[str]()
    for split in data.values():
        if isinstance(split.features[column], datasets.Image):
            values = split.select_columns([column]).cast_column(column, datasets.Image(decode=False))[column]
            paths.update(value["path"] for value in values if value and value["path"] and value["bytes"] is None)
    if twice := [Path(path).name for path, count in paths.items() if count > 1]:
        raise ValueError(f"{source} names files more than once: {some_of(twice)}; expected one row for each image.")
