"""BraTS 2020: gliomas in four co-registered modalities, with tumour masks.

From the challenge's site at the University of Pennsylvania (CBICA; registration), earlier years also at TCIA. For
research only, with its papers to be cited (Menze 2015, Bakas 2017 and 2018); it may not be passed on.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Unpack

import datasets

from meddiffusers.datasets.public.building import Options, build
from meddiffusers.datasets.public.finding import Index, Row, folders_named, scans_named
from meddiffusers.datasets.public.tables import Record, first_table, matched, number, read_table

MODALITIES = ("t1", "t1ce", "t2", "flair")
LABELS = {0: "background", 1: "necrotic and non-enhancing core", 2: "oedema", 4: "enhancing tumour"}
CASE = r"BraTS20_(Training|Validation)_\d+"


def brats2020(folder: str | Path, **options: Unpack[Options]) -> datasets.DatasetDict:
    """The cases of a training folder, a validation folder, or one that holds both.

    Columns: subject; t1, t1ce, t2, flair (skull-stripped, 240×240×155 voxels of 1 mm, on one grid); seg (`LABELS`;
    None for validation cases, and no column where there are only those); grade ("HGG", "LGG"); age in years;
    survival_days, and alive: whether the patient still lived after so many days; resection ("GTR", "STR"). The last
    five are None where name_mapping.csv or survival_info.csv, both optional, do not tell.

    options: of `Options`. Raises as `build` does, and ValueError where the folder has another layout.
    """
    found = Index(Path(folder))
    cases = folders_named(found.folder, CASE)
    records = _records(found, cases)
    for name, copies in cases.items():
        found.only(name, "the case", copies)
        scans = {
            modality: found.only(name, modality, scans_named(copies[0], pattern), needed=True)
            for modality, pattern in _patterns(name).items()
        }
        found.rows.append(Row(name, name, scans, records.get(name, {})))
    found.require_rows("BraTS 2020", "BraTS20_Training_001/BraTS20_Training_001_flair.nii.gz")
    features = {
        "subject": datasets.Value("string"),
        **{name: datasets.Nifti() for name in (*MODALITIES, "seg") if any(name in row.scans for row in found.rows)},
        "grade": datasets.Value("string"),
        "age": datasets.Value("float64"),
        "survival_days": datasets.Value("int64"),
        "alive": datasets.Value("bool"),
        "resection": datasets.Value("string"),
    }
    return build(found, features, same_grid=True, label_values={"seg": LABELS}, **options)


def _patterns(case: str) -> dict[str, str]:
    """How the files of a case are named, by modality."""
    patterns = {modality: f".*_{modality}" for modality in MODALITIES}
    # The mask of case 355 is named W39_1998.09.19_Segm.nii.
    return patterns | {"seg": ".*_(seg|Segm)"} if "Training" in case else patterns


def _records(found: Index, cases: Collection[str]) -> dict[str, Record]:
    """What the two tables tell of each case."""
    grades, survival = dict[str, Record](), dict[str, Record]()
    if path := first_table(found.folder, "name_mapping.csv"):
        rows = read_table(path, columns=("Grade", "BraTS_2020_subject_ID"))
        grades = matched(found, path, [(row["BraTS_2020_subject_ID"], {"grade": row["Grade"]}) for row in rows], cases)
    if path := first_table(found.folder, "survival_info.csv"):
        rows = read_table(path, columns=("Brats20ID", "Age", "Survival_days", "Extent_of_Resection"))
        survival = matched(found, path, [(row["Brats20ID"], _survival(row)) for row in rows], cases)
    return {case: grades.get(case, {}) | survival.get(case, {}) for case in cases}


def _survival(row: Record) -> Record:
    """Days are a number, or text such as "ALIVE (361 days later)"."""
    text = str(row["Survival_days"] or "")
    days = re.search(r"\d+", text)
    return {
        "age": number(row["Age"]),
        "survival_days": int(days[0]) if days else None,
        "alive": "ALIVE" in text if text else None,
        "resection": row["Extent_of_Resection"],
    }
