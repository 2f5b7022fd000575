"""Write subjects in the folder layout of BraTS 2020."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from meddiffusers.data.io import write
from meddiffusers.data.layouts.folders import check_same_grid, new_folder, required_scans, write_csv
from meddiffusers.data.subject import Subject
from meddiffusers.utils.atomic import atomic_path

MODALITIES = ("t1", "t1ce", "t2", "flair")
LABELS = (1, 2, 4)
NAME_COLUMNS = (
    "Grade", "BraTS_2017_subject_ID", "BraTS_2018_subject_ID", "TCGA_TCIA_subject_ID", "BraTS_2019_subject_ID",
    "BraTS_2020_subject_ID",
)  # fmt: skip
SURVIVAL_COLUMNS = ("Brats20ID", "Age", "Survival_days", "Extent_of_Resection")


def write_brats(subjects: Iterable[Subject], folder: str | Path) -> Path:
    """Write the subjects one by one, each atomically, then name_mapping.csv and survival_info.csv.

    Args:
        subjects: each with t1, t1ce, t2, flair and lesions on one grid. Of the lesions, labels 1, 2 and 4 are written;
            all others become 0. The values "grade" (default "HGG"), "age", "survival_days" and "resection" of the
            record go into the tables.
        folder: new or empty.

    Returns:
        The folder.

    Raises:
        FileExistsError: the folder is not empty.
        ValueError: a subject lacks a required scan, or its scans are on several grids.
    """
    folder = new_folder(folder)
    names, survival = [], []
    for subject in subjects:
        name = f"BraTS20_Training_{subject.number:03d}"
        _write_subject(subject, folder / name)
        names.append({"Grade": subject.record.get("grade", "HGG"), "BraTS_2020_subject_ID": name})
        if "survival_days" in subject.record:
            days, resection = subject.record["survival_days"], subject.record.get("resection", "NA")
            known = {"Age": subject.record.get("age"), "Survival_days": days, "Extent_of_Resection": resection}
            survival.append({"Brats20ID": name, **known})
    write_csv(folder / "name_mapping.csv", NAME_COLUMNS, names)
    write_csv(folder / "survival_info.csv", SURVIVAL_COLUMNS, survival)
    return folder


def _write_subject(subject: Subject, folder: Path) -> None:
    scans = required_scans(subject, "BraTS 2020", *MODALITIES, "lesions")
    lesions = scans.pop("lesions")
    labels = np.where(np.isin(lesions.array, LABELS), lesions.array, 0).astype(np.uint8)
    scans["seg"] = lesions.like(labels)
    check_same_grid(subject, *scans.values())
    with atomic_path(folder) as staged:
        for name, scan in scans.items():
            write(scan, staged / f"{folder.name}_{name}.nii.gz")
