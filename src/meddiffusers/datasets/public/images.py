"""Users' own images: a folder with metadata.csv, a saved data set, or a repository of the Hub; and their colours."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pyarrow
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

from meddiffusers.datasets.public.image_tables import check_images, from_tables, paths_of, read_image_tables
from meddiffusers.datasets.subjects.copies import copied
from meddiffusers.utils.text import some_of

logger = logging.getLogger(__name__)
_SAVED = ("dataset_dict.json", "state.json")  # files of a data set that was saved


def load_images(name: str | Path, image_column: str) -> datasets.DatasetDict:
    """Load a data set of images.

    Args:
        name: a folder of images (optionally with metadata.csv), a data set that was saved, or a repository of the Hub.
        image_column: column of the images.

    Raises:
        ValueError: a metadata.csv or metadata.jsonl that is damaged, not separated by commas, or names absent files or
            none; damaged images, a missing column, or files named twice.
    """
    folder = Path(name)
    if any((folder / file).is_file() for file in _SAVED):
        data = datasets.load_from_disk(str(name))
    elif folder.is_dir() and all(path.name == "metadata.parquet" for path in folder.rglob("*.parquet")):
        data = _load_folder(folder, image_column)
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


def _load_folder(folder: Path, image_column: str) -> datasets.DatasetDict:
    records = read_image_tables(folder)
    try:
        data = datasets.load_dataset("imagefolder", data_dir=str(folder))
    except (datasets.exceptions.DatasetGenerationError, pyarrow.ArrowInvalid, TypeError, KeyError):
        raise ValueError(
            f"{folder} cannot be loaded as a folder of images: rows of its tables differ in their columns or in the "
            "types of their values; expected the same in all. Correct metadata.csv or metadata.jsonl."
        ) from None
    _note_unused(data, records, folder)
    for key, split in data.items():
        check_images(split)
        if image_column in split.column_names:
            data[key] = from_tables(split, records, image_column)
    return data


def _note_unused(data: datasets.DatasetDict, records: Mapping[Path, Any], folder: Path) -> None:
    """Warn of images that no row of a table names, and so are left out."""
    used = {path for split in data.values() for name in split.column_names for path in paths_of(split, name)}
    found = (path for path in folder.rglob("*") if path.suffix.lower() in ImageFolder.EXTENSIONS and path.is_file())
    hidden = ("__MACOSX", ".")
    unused = [
        str(path.relative_to(folder))
        for path in found
        if path.resolve() not in used and not any(part.startswith(hidden) for part in path.relative_to(folder).parts)
    ]
    if records and unused:
        logger.warning("%s: no row of a table names %s: they are left out.", folder, some_of(unused))


def _check_named_once(data: datasets.DatasetDict, column: str, source: str) -> None:
    """Raise ValueError if rows name one file, also by links: it could be in both splits; warn of copies."""
    paths = [path for split in data.values() for path in paths_of(split, column)]
    files = [(path.name, path.stat()) for path in paths if path.is_file()]
    counts = Counter((status.st_dev, status.st_ino) for _, status in files)
    if twice := {name for name, status in files if counts[status.st_dev, status.st_ino] > 1}:
        raise ValueError(f"{source} names files more than once: {some_of(twice)}; expected one row for each image.")
    for same in copied(filter(Path.is_file, paths)):
        logger.warning(
            "%s: %s have the same content; if they are of one person, name the same subject for them, so that no image "
            "is in both splits.",
            source,
            some_of(path.name for path in same),
        )
