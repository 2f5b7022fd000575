"""Small random subjects, each a function of its number, and helpers for their files."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from meddiffusers.data.scan import Scan
from meddiffusers.data.subject import Subject

AFFINE = np.array([[-1.0, 0, 0, 8], [0, 0.9375, 0, -20], [0, 0, 1.5, 3], [0, 0, 0, 1]])
SHAPE = (6, 7, 5)
REGION_IDS = (0, 2, 3, 4, 10, 16, 24, 41, 72)


def small_subject(number: int, images: tuple[str, ...] = ("t1", "t1ce", "t2", "flair"), **record: Any) -> Subject:
    """int16 images on one grid, regions of `REGION_IDS`, lesions of 0 to 6."""
    rng = np.random.default_rng(number)
    return Subject(
        number,
        {name: Scan(rng.integers(-5, 3000, SHAPE).astype(np.int16), AFFINE, name) for name in images},
        regions=Scan(rng.choice(REGION_IDS, SHAPE).astype(np.uint8), AFFINE, "labels"),
        lesions=Scan(rng.integers(0, 7, SHAPE).astype(np.uint8), AFFINE, "labels"),
        record=record,
    )


def unpack(path: Path) -> Path:
    """Replace a .gz by what it holds."""
    plain = path.with_suffix("")
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()
    return plain


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
