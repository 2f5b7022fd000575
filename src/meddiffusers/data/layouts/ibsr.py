"""Cases as IBSR_18 lays them out, in NIfTI format."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from meddiffusers.data.io import write
from meddiffusers.data.layouts.folders import needed, new_folder, on_one_grid, tissues
from meddiffusers.data.subject import Subject
from meddiffusers.utils.atomic import replacing


def write_ibsr(cases: Iterable[Subject], folder: str | Path) -> Path:
    """Write the cases one by one, each whole or not at all: t1, its regions, and their three tissues.

    Raises:
        FileExistsError: the folder holds something already.
        ValueError: a case without t1 or regions, or with both on several grids.
    """
    folder = new_folder(folder)
    for case in cases:
        image, regions = needed(case, "IBSR_18", "t1", "regions").values()
        scans = {"ana": image, "seg_ana": regions, "segTRI_ana": tissues(regions)}
        on_one_grid(case, *scans.values())
        name = f"IBSR_{case.number:02d}"
        with replacing(folder / name) as staged:
            for suffix, scan in scans.items():
                write(scan, staged / f"{name}_{suffix}.nii.gz")
    return folder
