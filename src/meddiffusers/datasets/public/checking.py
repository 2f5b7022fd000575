"""Whether scans can be read: by header and size alone, or voxel by voxel.

A gzip file ends with the size of what it holds, modulo 2³², so a file that is cut short shows without being
decompressed. Where that size is not the one that the header promises, the file is read whole before it is accused.
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

from meddiffusers.data.io import read
from meddiffusers.data.scan import Scan
from meddiffusers.datasets.public.errors import Issue
from meddiffusers.datasets.public.finding import Row

GZIP = b"\x1f\x8b"


@dataclass(frozen=True, eq=False)
class Look:
    """What is wrong with a scan, "" for nothing, and where it lies."""

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
    """The issues of the rows' scans, in the order of the rows.

    verify: read every voxel, and compare label maps with `label_values`, the values allowed by column.
    same_grid: a issue, too, where the scans of a row have not one shape and affine (to 1e-3 mm).
    """
    asked = [(row, column, path) for row in rows for column, path in row.scans.items() if path is not None]
    allowed = label_values if verify else {}
    with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        looking = pool.map(lambda item: check_scan(item[2], verify, allowed.get(item[1])), asked)
        looks = list(tqdm(looking, total=len(asked), desc="Checking scans", unit=" scans"))
    issues = [Issue(row.subject, look.issue) for (row, _, _), look in zip(asked, looks, strict=True) if look.issue]
    if same_grid:
        seen: dict[str, dict[str, Look]] = {row.name: {} for row in rows}
        for (row, column, _), look in zip(asked, looks, strict=True):
            seen[row.name] |= {} if look.issue else {column: look}
        issues += [Issue(row.subject, text) for row in rows if (text := _grid_issue(seen[row.name]))]
    return issues


def check_scan(path: Path, verify: bool = False, allowed: Collection[int] | None = None) -> Look:
    """The look at a file or a DICOM folder; formats without a size to compare are read whole.

    verify: read every voxel; allowed: with it, the values that a label map may have.
    """
    look = None if verify else _by_header(path)
    if look:
        return look
    try:
        scan = read(path)
    except (OSError, ValueError, ImportError) as error:
        return Look(str(error))
    odd = [] if allowed is None else sorted(set(np.unique(scan.array).tolist()) - set(allowed))
    if odd:
        return Look(f"{path}: label values {odd[:5]}; expected only {sorted(allowed or ())}")
    return Look("", scan.shape, scan.affine)


def _by_header(path: Path) -> Look | None:
    """The look at a sound NIfTI or Analyze file that is as long as its header says, else None."""
    try:
        image: Any = nibabel.load(path)
        place = Scan(np.zeros((1, 1, 1), bool), image.affine)  # refuses an affine that is none
        promised = int(image.dataobj.offset) + math.prod(image.shape) * image.get_data_dtype().itemsize
        whole = _size(Path(image.file_map["image"].filename)) in (promised, promised % 2**32)
        return Look("", image.shape[:3], place.affine) if whole else None
    except Exception:  # of any kind, from a damaged header; reading the file says it in plain words
        return None


def _size(path: Path) -> int:
    """Bytes in the file once decompressed; modulo 2³² where it is compressed."""
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP
        file.seek(-4 if compressed else 0, os.SEEK_END)
        return int.from_bytes(file.read(), "little") if compressed else file.tell()


def _grid_issue(looks: Mapping[str, Look]) -> str:
    """What is wrong where scans that should lie on one grid do not, else ""."""
    shapes = {column: look.shape for column, look in looks.items()}
    if len({*shapes.values()}) > 1:
        return (
            f"mixed grids: {', '.join(f'{name} {shape}' for name, shape in shapes.items())} voxels; expected one grid"
        )
    affines = [look.affine for look in looks.values()]
    odd = [name for name, look in looks.items() if not np.allclose(look.affine, affines[0], atol=1e-3)]
    if odd:
        places = {name: np.round(looks[name].affine, 3).tolist() for name in (next(iter(looks)), *odd)}
        return f"mixed grids: affines {places}; expected one"
    return ""
