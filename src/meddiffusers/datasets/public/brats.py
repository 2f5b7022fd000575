"""BraTS 2020: gliomas in four co-registered modalities, with tumour masks.

Available from the challenge's site at the University of Pennsylvania (CBICA; registration), earlier years also from
TCIA. For research only, with citation of Menze 2015, Bakas 2017 and 2018; redistribution is not allowed.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Unpack

import datasets

from meddiffusers.datasets.public.building import Options, build
from meddiffusers.datasets.public.finding import Index, Row, folders_named, scans_named
from meddiffusers.datasets.public.tables import Record, first_table, match_records, read_table, to_number

MODALITIES = ("t1", "t1ce", "t2", "flair")
LABELS = {0: "background", 1: "necrotic and non-enhancing core", 2: "oedema", 4: "enhancing tumour"}
SUBJECT = r"BraTS20_(Training|Validation)_\d+"


def brats2020(folder: str | Path, **options: Unpack[Options]) -> datasets.DatasetDict:
    """Load the training folder, the validation folder, or a folder with both.

    Args:
        folder: the unpacked download.
        **options: see `Options`.

    Returns:
        Splits with the columns subject; t1, t1ce, t2, flair (skull-stripped, 240×240×155 voxels of 1 mm on one grid);
        seg (`LABELS`; None for validation subjects, and absent if there are only those); grade ("HGG", "LGG"); age in
        years; survival_days; alive (whether the patient was alive after survival_days); resection ("GTR", "STR"). The
        last five are None if unknown; they come from name_mapping.csv and survival_info.csv, both optional.

    Raises:
        DatasetError: see `build`.
        ValueError: the folder has another layout; see also `build`.
    """
    index = Index(Path(folder))
    subjects = folders_named(index.folder, SUBJECT)
    records = _records(index, subjects)
    for name, copies in subjects.items():
        index.single(name, "the subject", copies)
        scans = {
            modality: index.single(name, modality, scans_named(copies[0], pattern), needed=True)
            for modality, pattern in _patterns(name).items()
        }
        index.rows.append(Row(name, name, scans, records.get(name, {})))
    index.require_rows("BraTS 2020", "BraTS20_Training_001/BraTS20_Training_001_flair.nii.gz")
    features = {
        "subject": datasets.Value("string"),
        **{name: datasets.Nifti() for name in (*MODALITIES, "seg") if any(name in row.scans for row in index.rows)},
        "grade": datasets.Value("string"),
        "age": datasets.Value("float64"),
        "survival_days": datasets.Value("int64"),
        "alive": datasets.Value("bool"),
        "resection": datasets.Value("string"),
    }
    return build(index, features, same_grid=True, label_values={"seg": LABELS}, **options)


def _patterns(subject: str) -> dict[str, str]:
    """File name patterns of a subject by modality."""
    patterns = {modality: f".*_{modality}" for modality in MODALITIES}
    # The mask of subject 355 is named W39_1998.09.19_Segm.nii.
    return patterns | {"seg": ".*_(seg|Segm)"} if "Training" in subject else patterns


def _records(index: Index, subjects: Collection[str]) -> dict[str, Record]:
    """Metadata of each subject from the two tables."""
    grades, survival = dict[str, Record](), dict[str, Record]()
    if path := first_table(index.folder, "name_mapping.csv"):
        rows = read_table(path, columns=("Grade", "BraTS_2020_subject_ID"))
        grades = match_records(
            index, path, [(row["BraTS_2020_subject_ID"], {"grade": row["Grade"]}) for row in rows], subjects
        )
    if path := first_table(index.folder, "survival_info.csv"):
        rows = read_table(path, columns=("Brats20ID", "Age", "Survival_days", "Extent_of_Resection"))
        survival = match_records(index, path, [(row["Brats20ID"], _survival(row)) for row in rows], subjects)
    return {subject: grades.get(subject, {}) | survival.get(subject, {}) for subject in subjects}


def _survival(row: Record) -> Record:
    """Parse survival; days are a number, or text such as "ALIVE (361 days later)"."""
    text = str(row["Survival_days"] or "")
    days = re.search(r"\d+", text)
    return {
        "age": to_number(row["Age"]),
        "survival_days": int(days[0]) if days else None,
        "alive": "ALIVE" in text if text else None,
        "resection": row["Extent_of_Resection"],
    }
