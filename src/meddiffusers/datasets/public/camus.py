"""CAMUS: apical two- and four-chamber echocardiography of 500 patients, with LV, myocardium and left atrium segmented.

From CREATIS, Lyon (creatis.insa-lyon.fr; registration required). For research only; it may not be redistributed, and
its paper must be cited (Leclerc et al., IEEE TMI 2019). Sequences run from end diastole to end systole. The extension
TED has full cardiac cycles of 98 of the patients (Painchaud et al., IEEE TMI 2022), under the same terms.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import datasets

from meddiffusers.datasets.public.building import (
    Options,
    build_splits,
    drop_invalid_rows,
)
from meddiffusers.datasets.public.checking import check_scan, find_scan_issues
from meddiffusers.datasets.public.errors import Issue
from meddiffusers.datasets.public.finding import Index, Row, folders_named
from meddiffusers.datasets.public.splitting import check_fraction, select_test_subjects
from meddiffusers.datasets.public.tables import read_info, to_sex
from meddiffusers.utils.text import some_of

VIEWS = ("2CH", "4CH")
LABELS = {0: "background", 1: "left ventricle", 2: "myocardium", 3: "left atrium"}
PARTS = {"train": "training", "validation": "validation", "test": "testing"}
SCAN = re.compile(r"(?P<stem>.+)\.(nii|nii\.gz|mhd)", re.IGNORECASE)
INFO = {
    "ED": int,
    "ES": int,
    "NbFrame": int,
    "FrameRate": float,
    "EF": float,
    "Age": float,
    "Sex": str,
    "ImageQuality": str,
}
REQUIRED = ("ED", "ES", "NbFrame")


def camus(folder: str | Path, *, subgroup: int | None = 1, **options: Unpack[Options]) -> datasets.DatasetDict:
    """Load CAMUS (half cycles) or TED (full cycles), one row for each view of a patient.

    Columns: subject ("patient0001"); view ("2CH", "4CH"); sequence (images with the axes X across the beam, Y along it,
    and time; uint8), labels (`LABELS`, on the same grid); ed_frame and es_frame, counted from 0; frames; frame_rate in
    frames per second; quality ("Good", "Medium", "Poor"); ejection_fraction in [0, 1]; age in years; sex ("F", "M").
    The last five are None where the .cfg file lacks them. A patient of TED may have one view only. The separate
    files of end diastole and end systole, which repeat frames of the sequences, are not read.

    Args:
        folder: Folder of the downloaded data.
        subgroup: Number of the lists subGroup1_training.txt, …_validation.txt and …_testing.txt, which define the
            splits train, validation and test. With None, or without any such lists, patients are split by `options`.
        options: Those of `Options`.

    Raises:
        ValueError: If the folder has another layout, or has lists but not those of the subgroup.
        DatasetError: As in `build`.
    """
    index = Index(Path(folder))
    for name, copies in folders_named(index.folder, r"patient\d{3,4}").items():
        index.single(name, "the patient's folder", copies)
        index.rows.extend(_row(index, copies[0], name, view) for view in _views(copies[0], name))
    index.require_rows(
        "CAMUS", "patient0001/patient0001_4CH_half_sequence.nii.gz or patient001/patient001_4CH_sequence.mhd"
    )
    parts = None if subgroup is None else _parts(index, subgroup)
    test_fraction = options.get("test_fraction", 0.2)
    check_fraction(test_fraction)
    rows = drop_invalid_rows(index, _issues(index, options), options.get("skip_invalid", False))
    if parts is None:
        test = select_test_subjects((row.subject for row in rows), test_fraction, options.get("seed", 0))
        parts = {"train": {row.subject for row in rows} - test, "test": test}
    split = {part: [row for row in rows if row.subject in subjects] for part, subjects in parts.items()}
    return build_splits(split, _features(), options.get("num_proc"))


def _views(folder: Path, name: str) -> Sequence[str]:
    """The views of a patient: both in CAMUS; in TED, whose names have three digits, those that it has files of."""
    present = [view for view in VIEWS if any(folder.glob(f"{name}_{view}_*"))]
    return present if present and len(name) == len("patient001") else VIEWS


def _row(index: Index, folder: Path, name: str, view: str) -> Row:
    def scan(end: str) -> Path | None:
        pattern = re.compile(f"{name}_{view}(_half)?_sequence{end}")
        named = ((path, SCAN.fullmatch(path.name)) for path in sorted(folder.iterdir()))
        paths = [path for path, match in named if match and pattern.fullmatch(match["stem"])]
        return index.single(name, f"{name}_{view}_…sequence{end}", paths, needed=True)

    scans = {"sequence": scan(""), "labels": scan("_gt")}
    paths = [path for path in (folder / f"Info_{view}.cfg", folder / f"{name}_{view}_info.cfg") if path.exists()]
    path = index.single(name, f"Info_{view}.cfg or {name}_{view}_info.cfg", paths, needed=True)
    info = read_info(index, name, path, INFO, REQUIRED) if path else {}
    record = {
        "view": view,
        "ed_frame": info.get("ED", 0) - 1,
        "es_frame": info.get("ES", 0) - 1,
        "frames": info.get("NbFrame"),
        "frame_rate": info.get("FrameRate"),
        "quality": info.get("ImageQuality"),
        "ejection_fraction": info["EF"] / 100 if "EF" in info else None,
        "age": info.get("Age"),
        "sex": to_sex(info.get("Sex")),
    }
    return Row(name, f"{name}_{view}", scans, record)


def _issues(index: Index, options: Options) -> list[Issue]:
    """Collect the issues of the index, those of the scans, and numbers of frames that contradict the .cfg file."""
    issues = find_scan_issues(
        index.rows,
        verify=options.get("verify", False),
        same_grid=True,
        label_values={"labels": LABELS},
        threads=options.get("num_proc"),
    )
    return [*index.issues, *issues, *(Issue(row.subject, text) for row in index.rows if (text := _frames_issue(row)))]


def _frames_issue(row: Row) -> str:
    path, frames = row.scans["sequence"], row.record["frames"]
    if path is None or frames is None:
        return ""
    shape = check_scan(path).shape
    if shape and shape[2] != frames:
        return f"{path.name} has {shape[2]} frames, its .cfg says {frames}; expected as many"
    outside = [row.record[key] + 1 for key in ("ed_frame", "es_frame") if not 0 <= row.record[key] < frames]
    return f"{row.name}: ED or ES at frame {outside[0]}; expected 1 to {frames}" if outside else ""


def _parts(index: Index, subgroup: int) -> dict[str, set[str]] | None:
    """Read the patients of each split from the lists of the subgroup; a patient must be in exactly one of them."""
    lists = {path.name: path for path in sorted(index.folder.rglob("subGroup*_*.txt"))}
    if not lists:
        return None
    paths = {part: lists.get(f"subGroup{subgroup}_{name}.txt") for part, name in PARTS.items()}
    if missing := [f"subGroup{subgroup}_{PARTS[part]}.txt" for part, path in paths.items() if path is None]:
        raise ValueError(
            f"{index.folder} has no {', '.join(missing)}; it has {some_of(lists)}. Choose another subgroup."
        )
    parts = {part: {*path.read_text(encoding="utf-8").split()} for part, path in paths.items() if path}
    subjects = {row.subject for row in index.rows}
    for subject in sorted(subjects):
        memberships = [part for part, names in parts.items() if subject in names]
        if len(memberships) != 1:
            where = f"in the lists of {' and '.join(memberships)}" if memberships else "in no list"
            index.issues.append(
                Issue(subject, f"{where} of subGroup{subgroup}; expected one: set subgroup=None to ignore")
            )
    if absent := set().union(*parts.values()) - subjects:
        index.notes.append(f"the lists of subGroup{subgroup} name patients without data: {some_of(absent)}")
    return parts


def _features() -> dict[str, Any]:
    return {
        **dict.fromkeys(("subject", "view"), datasets.Value("string")),
        **dict.fromkeys(("sequence", "labels"), datasets.Nifti()),
        **dict.fromkeys(("ed_frame", "es_frame", "frames"), datasets.Value("int64")),
        "frame_rate": datasets.Value("float64"),
        "quality": datasets.Value("string"),
        **dict.fromkeys(("ejection_fraction", "age"), datasets.Value("float64")),
        "sex": datasets.Value("string"),
    }
