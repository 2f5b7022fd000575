"""CAMUS: apical two- and four-chamber ultrasound of 500 hearts with outlines of ventricle, wall and left atrium.

From CREATIS, Lyon (creatis.insa-lyon.fr; registration), for research only and with its paper to be cited (Leclerc et
al., IEEE TMI 2019); it may not be passed on. Its sequences run from end diastole to end systole. The extension TED
holds 98 of the patients over a full cycle (Painchaud et al., IEEE TMI 2022), under the same terms.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Unpack

import datasets

from meddiffusers.datasets.public.building import (
    Options,
    build_splits,
    check_fraction,
    drop_invalid_rows,
    select_test_subjects,
)
from meddiffusers.datasets.public.checking import check_scan, find_scan_issues
from meddiffusers.datasets.public.errors import Issue
from meddiffusers.datasets.public.finding import Index, Row, folders_named
from meddiffusers.datasets.public.tables import sex
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
NEEDED = ("ED", "ES", "NbFrame")


def camus(folder: str | Path, *, subgroup: int | None = 1, **options: Unpack[Options]) -> datasets.DatasetDict:
    """Two rows a patient, one a view, from the half cycles or the full ones.

    Columns: subject ("patient0001"); view ("2CH", "4CH"); sequence (the images, X across the beam, Y along it, and
    frames as third axis; uint8), labels (`LABELS`, on the same grid); ed_frame and es_frame, counted from 0; frames;
    frame_rate in frames a second; quality ("Good", "Medium", "Poor"); ejection_fraction in [0, 1]; age in years; sex
    ("F", "M"). The last five are None where the .cfg does not tell. The single frames at end diastole and end systole
    that come with half cycles are frames of the sequences.
    subgroup: the number of the lists subGroup1_training.txt, …_validation.txt and …_testing.txt that give the splits
        train, validation and test; without such lists in the folder, and with None, patients are split by `options`.

    options: of `Options`. Raises as `build` does, and ValueError where the folder has another layout or lacks the lists
    of that subgroup alone.
    """
    found = Index(Path(folder))
    for name, copies in folders_named(found.folder, r"patient\d{3,4}").items():
        found.only(name, "the patient's folder", copies)
        found.rows.extend(_row(found, copies[0], name, view) for view in VIEWS)
    found.require_rows(
        "CAMUS", "patient0001/patient0001_4CH_half_sequence.nii.gz or patient001/patient001_4CH_sequence.mhd"
    )
    parts = None if subgroup is None else _parts(found, subgroup)
    test_fraction = options.get("test_fraction", 0.2)
    check_fraction(test_fraction)
    rows = drop_invalid_rows(found, _issues(found, options), options.get("skip_invalid", False))
    if parts is None:
        test = select_test_subjects((row.subject for row in rows), test_fraction, options.get("seed", 0))
        parts = {"train": {row.subject for row in rows} - test, "test": test}
    split = {part: [row for row in rows if row.subject in subjects] for part, subjects in parts.items()}
    return build_splits(split, _features(), options.get("num_proc"))


def _row(found: Index, folder: Path, name: str, view: str) -> Row:
    def scan(end: str) -> Path | None:
        wanted = re.compile(f"{name}_{view}(_half)?_sequence{end}")
        named = ((path, SCAN.fullmatch(path.name)) for path in sorted(folder.iterdir()))
        paths = [path for path, match in named if match and wanted.fullmatch(match["stem"])]
        return found.only(name, f"{name}_{view}_…sequence{end}", paths, needed=True)

    scans = {"sequence": scan(""), "labels": scan("_gt")}
    paths = [path for path in (folder / f"Info_{view}.cfg", folder / f"{name}_{view}_info.cfg") if path.exists()]
    path = found.only(name, f"Info_{view}.cfg or {name}_{view}_info.cfg", paths, needed=True)
    info = _info(found, name, path) if path else {}
    record = {
        "view": view,
        "ed_frame": info.get("ED", 0) - 1,
        "es_frame": info.get("ES", 0) - 1,
        "frames": info.get("NbFrame"),
        "frame_rate": info.get("FrameRate"),
        "quality": info.get("ImageQuality"),
        "ejection_fraction": info["EF"] / 100 if "EF" in info else None,
        "age": info.get("Age"),
        "sex": sex(info.get("Sex")),
    }
    return Row(name, f"{name}_{view}", scans, record)


def _info(found: Index, subject: str, path: Path) -> dict[str, Any]:
    """Lines such as "ED: 1". What is missing or no number is a issue where it is needed, else unknown."""
    lines = (line.partition(":") for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    stated = {key.strip(): value.strip() for key, _, value in lines}
    info: dict[str, Any] = {}
    for key, kind in INFO.items():
        try:
            info[key] = kind(stated[key])
        except (KeyError, ValueError):
            if key in NEEDED:
                found.issues.append(
                    Issue(subject, f"{path.name}: no whole number {key}; expected a line such as {key}: 1")
                )
    return info


def _issues(found: Index, options: Options) -> list[Issue]:
    """Those seen so far, those of the scans, and frames that are not as many as the .cfg says."""
    issues = find_scan_issues(
        found.rows,
        verify=options.get("verify", False),
        same_grid=True,
        label_values={"labels": LABELS},
        threads=options.get("num_proc"),
    )
    return [*found.issues, *issues, *(Issue(row.subject, text) for row in found.rows if (text := _frames_issue(row)))]


def _frames_issue(row: Row) -> str:
    path, frames = row.scans["sequence"], row.record["frames"]
    if path is None or frames is None:
        return ""
    shape = check_scan(path).shape
    if shape and shape[2] != frames:
        return f"{path.name} has {shape[2]} frames, its .cfg says {frames}; expected as many"
    outside = [row.record[key] + 1 for key in ("ed_frame", "es_frame") if not 0 <= row.record[key] < frames]
    return f"{row.name}: ED or ES at frame {outside[0]}; expected 1 to {frames}" if outside else ""


def _parts(found: Index, subgroup: int) -> dict[str, set[str]] | None:
    """The patients of each split, by the lists of the subgroup; a patient in none of them or in two is a issue."""
    lists = {path.name: path for path in sorted(found.folder.rglob("subGroup*_*.txt"))}
    if not lists:
        return None
    paths = {part: lists.get(f"subGroup{subgroup}_{name}.txt") for part, name in PARTS.items()}
    if missing := [f"subGroup{subgroup}_{PARTS[part]}.txt" for part, path in paths.items() if path is None]:
        raise ValueError(
            f"{found.folder} has no {', '.join(missing)}; it has {some_of(lists)}. Choose another subgroup."
        )
    parts = {part: {*path.read_text(encoding="utf-8").split()} for part, path in paths.items() if path}
    subjects = {row.subject for row in found.rows}
    for subject in sorted(subjects):
        of = [part for part, names in parts.items() if subject in names]
        if len(of) != 1:
            where = f"in the lists of {' and '.join(of)}" if of else "in no list"
            found.issues.append(
                Issue(subject, f"{where} of subGroup{subgroup}; expected one: set subgroup=None to ignore")
            )
    if absent := set().union(*parts.values()) - subjects:
        found.notes.append(f"the lists of subGroup{subgroup} name patients that are not there: {some_of(absent)}")
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
