"""Check that scans can be read, by header and file size alone or voxel by voxel.

A gzip file ends with the size of its uncompressed content modulo 2³², so a truncated file is detected without being
decompressed. If that size differs from the one in the header, the file is read completely before an issue is reported.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from datasets.utils import tqdm
from nibabel.nifti1 import Nifti1Header

from meddiffusers.data.io import read
from meddiffusers.data.io.gunzip import beginning
from meddiffusers.data.io.library_errors import scan_read
from meddiffusers.data.io.nifti_header import HEADER_BYTES, affine_of, parse_header, scaling_of, stored_layout
from meddiffusers.data.labels import to_label_ids
from meddiffusers.data.modalities import LABELS, modality_in
from meddiffusers.datasets.public.errors import Issue
from meddiffusers.datasets.public.finding import Index, Row
from meddiffusers.datasets.subjects.copies import copied
from meddiffusers.utils.text import some_of

GZIP = b"\x1f\x8b"
SAMPLE = 4096  # bytes, which hold a header, also compressed


@dataclass(frozen=True, eq=False)
class ScanCheck:
    """Result of a check: the issue ("" if there is none), and the grid of the scan."""

    issue: str = ""
    shape: tuple[int, ...] = ()
    affine: np.ndarray = field(default_factory=lambda: np.eye(4))


def find_scan_issues(
    rows: Sequence[Row],
    *,
    verify: bool,
    same_grid: bool,
    label_values: Mapping[str, Collection[int]],
    threads: int | None = None,
) -> list[Issue]:
    """Check all scans and return their issues in the order of the rows.

    Args:
        rows: rows with the paths of their scans.
        verify: read every voxel, and compare label maps with `label_values`.
        same_grid: report rows whose scans differ in shape or affine (by more than 1e-3 mm).
        label_values: allowed label values by column, read with `verify`; those of a row are always read.
        threads: number of threads, by default up to 8.
    """
    scans = [(row, column, path) for row in rows for column, path in row.scans.items() if path is not None]
    allowed = label_values if verify else {}

    def checked(item: tuple[Row, str, Path]) -> ScanCheck:
        row, column, path = item
        own = row.label_values.get(column)
        return check_scan(path, verify or own is not None, own or allowed.get(column))

    with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        running = pool.map(checked, scans)
        checks = list(tqdm(running, total=len(scans), desc="Checking scans", unit=" scans"))
    issues = [Issue(row.subject, check.issue) for (row, _, _), check in zip(scans, checks, strict=True) if check.issue]
    if same_grid:
        seen: dict[str, dict[str, ScanCheck]] = {row.name: {} for row in rows}
        for (row, column, _), check in zip(scans, checks, strict=True):
            seen[row.name] |= {} if check.issue else {column: check}
        issues += [Issue(row.subject, text) for row in rows if (text := _grid_issue(seen[row.name]))]
    return issues


def add_copies(index: Index, label_columns: Collection[str]) -> None:
    """Add an issue for a link to another subject's image, and a note for a copy of it.

    Label maps may well be alike, as empty ones are.
    """
    owners: dict[Path, str] = {}
    files: dict[tuple[int, int], Path] = {}  # by device and number, which links share
    for row in index.rows:
        for column, path in row.scans.items():
            if path and path.exists() and column not in label_columns and modality_in(column) != LABELS:
                status = path.stat()
                first = files.setdefault((status.st_dev, status.st_ino), path)
                if owners.setdefault(first, row.subject) != row.subject and path != first:
                    found = f"{path.name} is a link to {first.name} of {owners[first]}"
                    index.issues.append(Issue(row.subject, f"{found}; expected one owner: remove the link"))
    for same in copied(owners):
        subjects = dict.fromkeys(owners[path] for path in same)
        if len(subjects) > 1:
            names = some_of(str(path.relative_to(index.folder)) for path in same)
            whose = f"{names} have the same content, and are of {some_of(subjects)}"
            index.notes.append(f"{whose}: remove the copies, so that no image is in both splits")


def check_scan(path: Path, verify: bool = False, allowed: Collection[int] | None = None) -> ScanCheck:
    """Check a file or a DICOM folder; formats without a size in the header are read completely.

    Args:
        path: of the scan.
        verify: read every voxel.
        allowed: with `verify`, the values that a label map may have.
    """
    check = None if verify else _by_header(path)
    if check:
        return check
    try:
        scan = read(path)
    except (OSError, ValueError, ImportError) as error:
        return ScanCheck(str(error))
    if allowed is not None:
        try:
            odd = sorted(set(np.flatnonzero(np.bincount(to_label_ids(scan.array).ravel())).tolist()) - set(allowed))
        except ValueError as error:
            return ScanCheck(f"{path}: {error}")
        if odd:
            return ScanCheck(f"{path}: label values {odd[:5]}; expected only {sorted(allowed)}")
    return ScanCheck("", scan.shape, scan.affine)


def _by_header(path: Path) -> ScanCheck | None:
    """Check of a valid NIfTI or Analyze file whose length agrees with its header, else None."""
    try:
        if path.name.lower().endswith((".nii", ".nii.gz")):
            shape, affine, promised, voxels = *_layout(path), path
        else:
            image: Any = nibabel.load(path)
            shape, affine, voxels = image.shape, image.affine, Path(image.file_map["image"].filename)
            promised = int(image.dataobj.offset) + math.prod(shape) * image.get_data_dtype().itemsize
        place = scan_read(np.zeros((1, 1, 1), bool), affine, "", str(path))  # refuses an invalid affine
        whole = _size(voxels) in (promised, promised % 2**32)
        return ScanCheck("", (*shape, 1, 1)[:3], place.affine) if whole else None
    except Exception:  # a damaged header raises any kind; reading the file gives a clear message
        return None


def _layout(path: Path) -> tuple[tuple[int, ...], np.ndarray, int]:
    """Shape, affine and bytes by the header as `read` takes it; ValueError if it is invalid or has to be repaired."""
    with path.open("rb") as file:
        header = parse_header(str(path), beginning(str(path), file.read(SAMPLE), HEADER_BYTES), pair=False)
    shape, dtype, offset = stored_layout(str(path), header)
    scaling_of(str(path), header)
    affine, notes = affine_of(str(path), header) if isinstance(header, Nifti1Header) else (np.eye(4), ["Analyze"])
    if notes:
        raise ValueError(f"{path}: {notes}")
    return shape, affine, offset + math.prod(shape) * dtype.itemsize


def _size(path: Path) -> int:
    """Uncompressed size of a file in bytes; modulo 2³² if it is compressed."""
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP
        file.seek(-4 if compressed else 0, os.SEEK_END)
        return int.from_bytes(file.read(), "little") if compressed else file.tell()


def _grid_issue(checks: Mapping[str, ScanCheck]) -> str:
    """Issue of scans that are not on one grid, else ""."""
    shapes = {column: check.shape for column, check in checks.items()}
    if len({*shapes.values()}) > 1:
        return (
            f"mixed grids: {', '.join(f'{name} {shape}' for name, shape in shapes.items())} voxels; expected one grid"
        )
    affines = [check.affine for check in checks.values()]
    odd = [name for name, check in checks.items() if not np.allclose(check.affine, affines[0], atol=1e-3)]
    if odd:
        places = {name: np.round(checks[name].affine, 3).tolist() for name in (next(iter(checks)), *odd)}
        return f"mixed grids: affines {places}; expected one"
    return ""
