"""Look up values in the result of a loader."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np


def row_of(data: datasets.DatasetDict, name: str, column: str = "subject") -> dict[str, Any]:
    """The one row with that value, of any split."""
    (row,) = [row for split in data.values() for row in split if row[column] == name]
    return row


def known_of(data: datasets.DatasetDict, name: str, column: str = "subject") -> dict[str, Any]:
    """All but the scans of a row."""
    row = row_of(data, name, column)
    scans = {key for split in data.values() for key, kind in split.features.items() if kind == datasets.Nifti()}
    return {key: value for key, value in row.items() if key not in scans}


def values_of(data: datasets.DatasetDict, column: str = "subject") -> dict[str, list[Any]]:
    return {name: split[column][:] for name, split in data.items()}


def all_of(data: datasets.DatasetDict, column: str = "subject") -> list[Any]:
    """The column's values in all splits, sorted."""
    return sorted(value for split in data.values() for value in split[column])


def voxels(image: Any) -> np.ndarray:
    return np.asanyarray(image.dataobj)
