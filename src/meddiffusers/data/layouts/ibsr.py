"""Write subjects in the folder layout of IBSR_18, in NIfTI format."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from meddiffusers.data.io import write
from meddiffusers.data.layouts.folders import check_same_grid, new_folder, required_scans, tissues
from meddiffusers.data.subject import Subject
from meddiffusers.utils.atomic import atomic_path


def write_ibsr(subjects: Iterable[Subject], folder: str | Path) -> Path:
    """Write the subjects one by one, each atomically: t1, its regions, and their three tissues.

    Args:
        subjects: each with t1 and regions on one grid.
        folder: new or empty.

    Returns:
        The folder.

    Raises:
        FileExistsError: the folder is not empty.
        ValueError: a subject without t1 or regions, or with both on different grids.
    """
    folder = new_folder(folder)
    for subject in subjects:
        image, regions = required_scans(subject, "IBSR_18", "t1", "regions").values()
        scans = {"ana": image, "seg_ana": regions, "segTRI_ana": tissues(regions)}
        check_same_grid(subject, *scans.values())
        name = f"IBSR_{subject.number:02d}"
        with atomic_path(folder / name) as staged:
            for suffix, scan in scans.items():
                write(scan, staged / f"{name}_{suffix}.nii.gz")
    return folder
