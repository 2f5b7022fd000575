"""From the rows found in a folder to a `datasets.DatasetDict`: checked, split by patient, generated, cached."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import datasets
import nibabel

from meddiffusers.data.io import read, write
from meddiffusers.datasets.public.checking import find_scan_issues
from meddiffusers.datasets.public.errors import DatasetError, Issue
from meddiffusers.datasets.public.finding import Index, Row
from meddiffusers.utils.text import bullets

IMAGES = (".jpeg", ".jpg", ".png")  # what `datasets.Image` reads

logger = logging.getLogger(__name__)


class Options(TypedDict, total=False):
    """What every loader takes.

    test_fraction: part of the patients that make the split test, 0.2 by default and at least one patient; with 0 there
        is only the split train.
    seed: of the split, which depends on nothing but this number and the patients' names; 0 by default.
    skip_invalid: log the issues and load the other subjects, instead of raising `DatasetError`.
    verify: read every voxel and compare checksums and label values, instead of headers and file sizes alone.
    num_proc: processes that convert what is not NIfTI, and threads that check; the result does not depend on it.
    """

    test_fraction: float
    seed: int
    skip_invalid: bool
    verify: bool
    num_proc: int | None


def build(
    found: Index,
    features: Mapping[str, Any],
    *,
    same_grid: bool = False,
    label_values: Mapping[str, Collection[int]] | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    skip_invalid: bool = False,
    verify: bool = False,
    num_proc: int | None = None,
) -> datasets.DatasetDict:
    """The rows that were found as splits train and test; `features` gives the columns and their order.

    same_grid, label_values: as in `find_scan_issues`. The other arguments are those of `Options`.

    Raises:
        DatasetError: scans that are missing, double or damaged, all in one report; with skip_invalid only where no subject
            is left.
        ValueError: a test_fraction out of [0, 1), or too few patients to split.
    """
    check_fraction(test_fraction)
    issues = [
        *found.issues,
        *find_scan_issues(
            found.rows, verify=verify, same_grid=same_grid, label_values=label_values or {}, threads=num_proc
        ),
    ]
    rows = drop_invalid_rows(found, issues, skip_invalid)
    test = select_test_subjects((row.subject for row in rows), test_fraction, seed)
    return build_splits(split_rows(rows, {row.name for row in rows if row.subject in test}), features, num_proc)


def check_fraction(test_fraction: float) -> None:
    """ValueError where it is no part of the patients that leaves some for training."""
    if not 0 <= test_fraction < 1:
        raise ValueError(f"test_fraction={test_fraction}; expected at least 0 and less than 1.")


def drop_invalid_rows(found: Index, issues: Sequence[Issue], skip_invalid: bool) -> list[Row]:
    """The rows of the subjects without a issue, ordered by name; notes and skipped issues are logged as warnings."""
    if found.notes:
        logger.warning("%s:\n%s", found.folder, bullets(found.notes))
    invalid = {issue.subject for issue in issues}
    rows = sorted((row for row in found.rows if row.subject not in invalid), key=lambda row: row.name)
    if issues and not (skip_invalid and rows):
        raise DatasetError(found.folder, issues)
    if issues:
        logger.warning("%s: %d subjects are left out:\n%s", found.folder, len(invalid), bullets(issues))
    return rows


def select_test_subjects(subjects: Iterable[str], fraction: float, seed: int) -> set[str]:
    """The part of the subjects whose hash comes first, so that some more subjects move few of the others.

    Raises:
        ValueError: fewer than two subjects to split.
    """
    names = set(subjects)
    if fraction == 0:
        return set()
    if len(names) < 2:
        raise ValueError(
            f"One subject ({', '.join(names)}) cannot be split in two; set test_fraction=0 to have train alone."
        )
    ordered = sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    return set(ordered[: min(max(1, round(fraction * len(names))), len(names) - 1)])


def split_rows(rows: Sequence[Row], test: Collection[str]) -> dict[str, list[Row]]:
    """The rows of train and of test, the latter those with the names in `test`."""
    return {"train": [row for row in rows if row.name not in test], "test": [row for row in rows if row.name in test]}


def build_splits(
    parts: Mapping[str, Sequence[Row]], features: Mapping[str, Any], num_proc: int | None
) -> datasets.DatasetDict:
    """A data set of each split's rows, by the split's name; splits without rows are left out.

    Files that `datasets` reads by itself stay where they are and are opened on access; others are converted to NIfTI
    inside the data set. The cache knows the files by path, size and time of change.
    """
    return datasets.DatasetDict(
        {
            name: datasets.Dataset.from_generator(
                _examples,
                features=datasets.Features(features),
                gen_kwargs={"rows": [_described(row, features) for row in part]},
                num_proc=num_proc,
                split=datasets.NamedSplit(name),
            )
            for name, part in parts.items()
            if part
        }
    )


def _described(row: Row, features: Mapping[str, Any]) -> str:
    """A row as JSON, which is quick to hash, with what tells whether one of its files has changed since."""
    paths = {column: str(path.absolute()) for column, path in row.scans.items() if path is not None}
    values = {"subject": row.subject, **row.record, **paths}
    description = {
        "values": {column: values.get(column) for column in features},
        "scans": sorted(paths),
        "stamps": [stamp for column in sorted(paths) for stamp in _stamps(Path(paths[column]))],
    }
    return json.dumps(description)


def _stamps(path: Path) -> list[tuple[str, int, int]]:
    """Name, bytes and time of change of all files that make up the scan: of a folder, or of a header and its voxels."""
    if path.is_dir():
        files = sorted(path.iterdir())
    elif path.name.lower().endswith((".nii", ".gz", *IMAGES)):
        files = [path]
    else:
        files = sorted(file for file in path.parent.iterdir() if file.stem == path.stem)
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _examples(rows: list[str]) -> Iterator[dict[str, Any]]:
    for row in map(json.loads, rows):
        yield {name: _stored(value) if name in row["scans"] else value for name, value in row["values"].items()}


def _stored(path: str) -> str | bytes:
    """The path of what `datasets` reads by itself, and can embed; else the scan as NIfTI-1 in one file."""
    if path.lower().endswith(IMAGES):
        return path
    if path.lower().endswith((".nii", ".nii.gz")) and type(nibabel.load(path)) is nibabel.Nifti1Image:
        return path
    with tempfile.TemporaryDirectory() as scratch:
        return write(read(path), Path(scratch) / "scan.nii.gz").read_bytes()
