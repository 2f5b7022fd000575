"""Cases as OASIS-1 lays them out, in Analyze format."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from meddiffusers.data.layouts.folders import needed, new_folder, on_one_grid, tissues, write_csv
from meddiffusers.data.scan import Scan
from meddiffusers.data.subject import Subject
from meddiffusers.utils.atomic import replacing

TABLE = "oasis_cross-sectional.csv"
COLUMNS = {
    "M/F": "sex", "Hand": "hand", "Age": "age", "Educ": "education", "SES": "ses", "MMSE": "mmse", "CDR": "cdr",
    "eTIV": "etiv", "nWBV": "nwbv", "ASF": "asf", "Delay": "delay",
}  # fmt: skip
STORED = ("uint8", "int16", "int32", "float32", "float64")


def write_oasis1(cases: Iterable[Subject], folder: str | Path) -> Path:
    """Write the cases one by one, each whole or not at all, then the table oasis_cross-sectional.csv.

    A case needs t1; where it has regions too, on the same grid, their three tissues are written as FSL_SEG. Of its
    record "sex", "age" and the other values of `COLUMNS` are written ("hand" else "R", "delay" else "N/A").
    Analyze holds voxels and their spacing alone: the axes are reordered to left, anterior, superior, the order that is
    assumed at reading, and the position in space is lost.

    Raises:
        FileExistsError: the folder holds something already.
        ValueError: a case without t1, on several grids, rotated against its axes, or of a type that Analyze lacks.
    """
    folder = new_folder(folder)
    rows = []
    for case in cases:
        name = f"OAS1_{case.number:04d}_MR1"
        _write_case(case, folder / name)
        record = {"hand": "R", "delay": "N/A", **case.record}
        rows.append({"ID": name} | {column: record.get(key) for column, key in COLUMNS.items()})
    write_csv(folder / TABLE, ("ID", *COLUMNS), rows)
    return folder


def _write_case(case: Subject, folder: Path) -> None:
    image = needed(case, "OASIS-1", "t1")["t1"]
    name = f"{folder.name}_mpr_n4_anon_111_t88_masked_gfc"
    scans = {f"PROCESSED/MPRAGE/T88_111/{name}": image}
    if case.regions is not None:
        on_one_grid(case, image, case.regions)
        scans[f"FSL_SEG/{name}_fseg"] = tissues(case.regions)
    with replacing(folder) as staged:
        for place, scan in scans.items():
            _write_analyze(scan, staged / f"{place}.hdr")


def _write_analyze(scan: Scan, path: Path) -> None:
    """The pair .hdr and .img; ValueError for what it cannot hold."""
    axes = scan.affine[:3, :3] / scan.spacing
    if not np.allclose(np.sort(np.abs(axes), axis=0)[:2], 0, atol=1e-3):
        raise ValueError(f"Analyze holds no rotation, but the scan's axes are {axes.tolist()}: resample it first.")
    if scan.array.dtype.name not in STORED:
        raise ValueError(f"Analyze has no voxels of {scan.array.dtype}; expected one of {', '.join(STORED)}.")
    turn = ornt_transform(io_orientation(scan.affine), axcodes2ornt("LAS"))
    image = nibabel.Nifti1Image(scan.array[0], scan.affine).as_reoriented(turn)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.AnalyzeImage(np.asanyarray(image.dataobj), image.affine), path)
