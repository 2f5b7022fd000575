"""ACDC: cine MR of the heart of 150 patients in short-axis slices, segmented at end diastole and end systole.

From CREATIS, Lyon, and the University Hospital of Dijon (creatis.insa-lyon.fr/Challenge/acdc); licence CC BY-NC-SA 4.0,
and its paper must be cited (Bernard et al., IEEE TMI 2018). Models trained on it fall under these terms.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

import datasets

from meddiffusers.datasets.public.building import Options, build
from meddiffusers.datasets.public.errors import Issue
from meddiffusers.datasets.public.finding import Index, Row, folders_named, scans_named
from meddiffusers.datasets.public.tables import read_info

LABELS = {0: "background", 1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
PHASES = ("ED", "ES")
PARTS = {"training": "train", "testing": "test"}  # folders of the download and their splits
FRAME_LABELS = r"patient\d{3}_frame\d{2,}_gt\.nii(\.gz)?"
INFO = {"ED": int, "ES": int, "NbFrame": int, "Group": str, "Height": float, "Weight": float}
REQUIRED = ("ED", "ES")


def acdc(folder: str | Path, *, official_split: bool = True, **options: Unpack[Options]) -> datasets.DatasetDict:
    """Load ACDC, one row for each patient at end diastole and at end systole.

    Columns: subject ("patient001"); phase ("ED", "ES"); image (slices from base to apex or back, with the axes X, Y and
    slice), labels (`LABELS`, on the same grid); frame (of the cardiac cycle, counted from 0); frames (number of them in
    the cycle); group ("NOR", "MINF" for infarction, "DCM" and "HCM" for dilated and hypertrophic cardiomyopathy, "RV"
    for an abnormal right ventricle); height in cm; weight in kg. The last four are None where Info.cfg lacks them, and
    labels is None for the patients of testing in downloads without them. The films patient001_4d.nii.gz are not read.

    Args:
        folder: Folder of the downloaded data, with the folders training and testing, or one of these two.
        official_split: Take the folders training and testing as the splits train and test. If False, or with only one
            of them, patients are split by `options`.
        options: Those of `Options`.

    Raises:
        ValueError: If the folder has another layout.
        DatasetError: As in `build`.
    """
    index = Index(Path(folder))
    parts: dict[str, set[str]] = {}
    for name, copies in folders_named(index.folder, r"patient\d{3}").items():
        index.single(name, "the patient's folder", copies)
        part = copies[0].parent.name
        parts.setdefault(PARTS.get(part, ""), set()).add(name)
        index.rows.extend(_rows(index, copies[0], name, needs_labels=part != "testing"))
    index.require_rows("ACDC", "training/patient001/patient001_frame01.nii.gz and patient001_frame01_gt.nii.gz")
    official = official_split and parts.keys() == {*PARTS.values()}
    label_values = {"labels": LABELS}
    return build(
        index, _features(), same_grid=True, label_values=label_values, parts=parts if official else None, **options
    )


def _rows(index: Index, folder: Path, name: str, needs_labels: bool) -> list[Row]:
    path = index.single(name, "Info.cfg", [file for file in (folder / "Info.cfg",) if file.is_file()], needed=True)
    info = read_info(index, name, path, INFO, REQUIRED) if path else {}
    known = {key.lower(): info.get(key) for key in ("Group", "Height", "Weight")} | {"frames": info.get("NbFrame")}
    if "ED" in info and info["ED"] == info.get("ES"):
        index.issues.append(Issue(name, f"Info.cfg: ED and ES are both frame {info['ED']}; expected two frames"))
    return [_row(index, folder, name, phase, info[phase], known, needs_labels) for phase in PHASES if phase in info]


def _row(
    index: Index, folder: Path, name: str, phase: str, frame: int, known: dict[str, Any], needs_labels: bool
) -> Row:
    stem = f"{name}_frame{frame:02d}"
    scans = {
        "image": index.single(name, stem, scans_named(folder, stem), needed=True),
        "labels": index.single(name, f"{stem}_gt", scans_named(folder, f"{stem}_gt"), needed=needs_labels),
    }
    return Row(name, f"{name}_{phase}", scans, {"phase": phase, "frame": frame - 1, **known})


def _features() -> dict[str, Any]:
    return {
        **dict.fromkeys(("subject", "phase"), datasets.Value("string")),
        **dict.fromkeys(("image", "labels"), datasets.Nifti()),
        **dict.fromkeys(("frame", "frames"), datasets.Value("int64")),
        "group": datasets.Value("string"),
        **dict.fromkeys(("height", "weight"), datasets.Value("float64")),
    }
