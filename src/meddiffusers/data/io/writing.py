"""Which writer a file's name asks for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from meddiffusers.data.io.nifti import write_nifti
from meddiffusers.data.scan import Scan

_WRITERS = {".nii.gz": write_nifti, ".nii": write_nifti}


def write(
    scan: Scan,
    path: str | Path,
    *,
    series: str | Path | None = None,
    names: Mapping[int, str] | None = None,
    keep_patient: bool = False,
) -> Path:
    """Write a scan in the format that the name ends with, whole or not at all, and return the path.

    .nii, .nii.gz: voxel type, values and affine as they are; channels as fourth axis.

    Raises:
        ValueError: an unknown ending, or voxels that the format cannot hold without loss.
    """
    path = Path(path)
    for suffix, writer in _WRITERS.items():
        if path.name.lower().endswith(suffix):
            writer(scan, path)
            return path
    raise ValueError(f"{path}: no known ending; expected one of {', '.join(_WRITERS)}.")
