"""Write subjects in the folder layout of OASIS-1, in Analyze format."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from meddiffusers.data.layouts.folders import check_same_grid, new_folder, required_scans, tissues, write_csv
from meddiffusers.data.scan import Scan
from meddiffusers.data.subject import Subject
from meddiffusers.utils.atomic import atomic_path

TABLE = "oasis_cross-sectional.csv"
COLUMNS = {
    "M/F": "sex", "Hand": "hand", "Age": "age", "Educ": "education", "SES": "ses", "MMSE": "mmse", "CDR": "cdr",
    "eTIV": "etiv", "nWBV": "nwbv", "ASF": "asf", "Delay": "delay",
}  # fmt: skip
STORED = ("uint8", "int16", "int32", "float32", "float64")


def write_oasis1(subjects: Iterable[Subject], folder: str | Path) -> Path:
    """Write the subjects one by one, each atomically, then the table oasis_cross-sectional.csv.

    Analyze stores voxels and their spacing alone: the axes are reordered to left, anterior, superior, the order that
    readers assume, and the position in space is lost.

    Args:
        subjects: each with t1, and optionally regions on the same grid, whose three tissues are written as FSL_SEG. The
            values of the record that are listed in `COLUMNS` go into the table ("hand" defaults to "R", "delay" to
            "N/A").
        folder: new or empty.

    Returns:
        The folder.

    Raises:
        FileExistsError: the folder is not empty.
        ValueError: a subject without t1, scans on several grids, an oblique affine, or a voxel type that Analyze lacks.
    """
    folder = new_folder(folder)
    rows = []
    for subject in subjects:
        name = f"OAS1_{subject.number:04d}_MR1"
        _write_subject(subject, folder / name)
        record = {"hand": "R", "delay": "N/A", **subject.record}
        rows.append({"ID": name} | {column: record.get(key) for column, key in COLUMNS.items()})
    write_csv(folder / TABLE, ("ID", *COLUMNS), rows)
    return folder


def _write_subject(subject: Subject, folder: Path) -> None:
    image = required_scans(subject, "OASIS-1", "t1")["t1"]
    name = f"{folder.name}_mpr_n4_anon_111_t88_masked_gfc"
    scans = {f"PROCESSED/MPRAGE/T88_111/{name}": image}
    if subject.regions is not None:
        check_same_grid(subject, image, subject.regions)
        scans[f"FSL_SEG/{name}_fseg"] = tissues(subject.regions)
    with atomic_path(folder) as staged:
        for place, scan in scans.items():
            _write_analyze(scan, staged / f"{place}.hdr")


def _write_analyze(scan: Scan, path: Path) -> None:
    """Write the pair .hdr and .img; ValueError for an oblique affine or an unsupported voxel type."""
    axes = scan.affine[:3, :3] / scan.spacing
    if not np.allclose(np.sort(np.abs(axes), axis=0)[:2], 0, atol=1e-3):
        raise ValueError(f"Analyze stores no rotation, but the scan's axes are {axes.tolist()}: resample it first.")
    if scan.array.dtype.name not in STORED:
        raise ValueError(f"Analyze has no voxels of {scan.array.dtype}; expected one of {', '.join(STORED)}.")
    turn = ornt_transform(io_orientation(scan.affine), axcodes2ornt("LAS"))
    image = nibabel.Nifti1Image(scan.array[0], scan.affine).as_reoriented(turn)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.AnalyzeImage(np.asanyarray(image.dataobj), image.affine), path)
