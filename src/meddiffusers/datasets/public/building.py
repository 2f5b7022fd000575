"""Build a `datasets.DatasetDict` from the rows of a folder: check, split by patient, convert and cache."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, TypedDict

import datasets
import PIL.Image
import PIL.ImageOps

from meddiffusers.data.io import read, write
from meddiffusers.data.io.nifti import is_plain
from meddiffusers.datasets.public.checking import add_copies, find_scan_issues
from meddiffusers.datasets.public.errors import DatasetError, Issue
from meddiffusers.datasets.public.finding import Index, Row
from meddiffusers.datasets.public.splitting import check_fraction, select_test_subjects
from meddiffusers.utils.text import bullets

IMAGES = (".jpeg", ".jpg", ".png")  # what `datasets.Image` reads
WITHOUT_TEXT = {
    *("jfif", "jfif_version", "jfif_unit", "jfif_density", "progressive", "progression", "adobe", "adobe_transform"),
    *("dpi", "gamma", "interlace", "transparency"),
}
PNG_MODES = ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA")
PNG, END_OF_JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd9"
PNG_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"pHYs")
_VERSION = 3  # of what is stored: raise it with every change that invalidates cached data sets

logger = logging.getLogger(__name__)


class Options(TypedDict, total=False):
    """Options that every loader accepts.

    Args:
        test_fraction: fraction of the patients in the test split, 0.2 by default and at least one patient; with 0 there
            is only the train split.
        seed: of the split, which depends only on this number and the patients' names; 0 by default.
        skip_invalid: log issues and load the other subjects, instead of raising `DatasetError`.
        verify: read every voxel and check checksums and label values, instead of headers and file sizes alone.
        num_proc: processes that convert other formats to NIfTI, and threads that check; the result does not depend on
            it.
    """

    test_fraction: float
    seed: int
    skip_invalid: bool
    verify: bool
    num_proc: int | None


def build(
    index: Index,
    features: Mapping[str, Any],
    *,
    same_grid: bool = False,
    label_values: Mapping[str, Collection[int]] | None = None,
    parts: Mapping[str, Collection[str]] | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    skip_invalid: bool = False,
    verify: bool = False,
    num_proc: int | None = None,
) -> datasets.DatasetDict:
    """Check the indexed rows and build the splits train and test, or those that the data set defines.

    Args:
        index: rows of the folder and the issues found so far.
        features: the columns, in order.
        same_grid: see `find_scan_issues`.
        label_values: see `find_scan_issues`.
        parts: the subjects of each split, where the data set defines them; test_fraction and seed have no effect then.
        test_fraction: see `Options`, as for the following arguments.

    Raises:
        DatasetError: missing, duplicate or damaged scans, or links to those of other subjects, all in one report;
            with skip_invalid only if no subject is left.
        ValueError: test_fraction is out of [0, 1), or there are too few patients to split.
    """
    check_fraction(test_fraction)
    add_copies(index, label_values or {})
    issues = [
        *index.issues,
        *find_scan_issues(
            index.rows, verify=verify, same_grid=same_grid, label_values=label_values or {}, threads=num_proc
        ),
    ]
    rows = drop_invalid_rows(index, issues, skip_invalid)
    if parts is not None:
        split = {name: [row for row in rows if row.subject in subjects] for name, subjects in parts.items()}
        return build_splits(split, features, num_proc)
    test = select_test_subjects((row.subject for row in rows), test_fraction, seed)
    return build_splits(split_rows(rows, {row.name for row in rows if row.subject in test}), features, num_proc)


def drop_invalid_rows(index: Index, issues: Sequence[Issue], skip_invalid: bool) -> list[Row]:
    """Return the rows of subjects without issues, ordered by name; notes and skipped issues are logged as warnings.

    Raises:
        DatasetError: there are issues, and skip_invalid is off or no subject is left.
    """
    if index.notes:
        logger.warning("%s:\n%s", index.folder, bullets(index.notes))
    invalid = {issue.subject for issue in issues}
    rows = sorted((row for row in index.rows if row.subject not in invalid), key=lambda row: row.name)
    if issues and not (skip_invalid and rows):
        raise DatasetError(index.folder, issues)
    if issues:
        logger.warning("%s: %d subjects are left out:\n%s", index.folder, len(invalid), bullets(issues))
    return rows


def split_rows(rows: Sequence[Row], test: Collection[str]) -> dict[str, list[Row]]:
    """Divide the rows into train and test, the latter those whose name is in `test`."""
    return {"train": [row for row in rows if row.name not in test], "test": [row for row in rows if row.name in test]}


def build_splits(
    parts: Mapping[str, Sequence[Row]], features: Mapping[str, Any], num_proc: int | None
) -> datasets.DatasetDict:
    """Build a data set for each split; splits without rows are left out.

    Files in formats that `datasets` reads stay in place and are opened on access; others, and those with texts in their
    header, are converted and stored in the data set. The cache identifies files by path, size and modification time.
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
    """Serialise a row as JSON, which is quick to hash, with the sizes and modification times of its files."""
    paths = {column: str(path.absolute()) for column, path in row.scans.items() if path is not None}
    values = {"subject": row.subject, **row.record, **paths}
    description = {
        "values": {column: values.get(column) for column in features},
        "scans": sorted(paths),
        "version": _VERSION,
        "stamps": [stamp for column in sorted(paths) for stamp in _stamps(Path(paths[column]))],
    }
    return json.dumps(description)


def _stamps(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and modification time of all files of a scan: of a folder, or of a header and its voxels."""
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
    """The path if `datasets` can read and embed the file and it holds voxels alone, else the scan as NIfTI-1 or PNG.

    Like `read`, a data set keeps no texts of a header, which may identify a patient.
    """
    if path.lower().endswith(IMAGES):
        return _stored_image(path)
    if path.lower().endswith((".nii", ".nii.gz")) and is_plain(Path(path)):
        return path
    with tempfile.TemporaryDirectory() as scratch:
        return write(read(path), Path(scratch) / "scan.nii.gz").read_bytes()


def _stored_image(path: str) -> str | bytes:
    with PIL.Image.open(path) as image:
        if {*image.info} <= WITHOUT_TEXT and _is_bare(Path(path).read_bytes(), image):
            return path
        try:
            upright = PIL.ImageOps.exif_transpose(image)
        except (SyntaxError, ValueError):  # a damaged orientation is none
            upright = image.copy()
        upright.info = {name: value for name, value in upright.info.items() if name in WITHOUT_TEXT}
        stream = BytesIO()
        (upright if upright.mode in PNG_MODES else upright.convert("RGB")).save(stream, "PNG")
        return stream.getvalue()


def _is_bare(data: bytes, image: PIL.Image.Image) -> bool:
    """Whether a PNG or JPEG has nothing in or behind it that Pillow leaves out, such as segments of applications."""
    if image.format == "PNG":
        place = len(PNG)
        while data[place + 4 : place + 8] in PNG_CHUNKS:
            place += 12 + int.from_bytes(data[place : place + 4], "big")
        return place == len(data)
    segments = {name for name, _ in getattr(image, "applist", [])}
    return image.format == "JPEG" and segments <= {"APP0", "APP14"} and data.find(END_OF_JPEG) == len(data) - 2
