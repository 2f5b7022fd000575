"""Cases as BraTS 2020 lays them out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from meddiffusers.data.io import write
from meddiffusers.data.layouts.folders import needed, new_folder, on_one_grid, write_csv
from meddiffusers.data.subject import Subject
from meddiffusers.utils.atomic import replacing

MODALITIES = ("t1", "t1ce", "t2", "flair")
LABELS = (1, 2, 4)
NAME_COLUMNS = (
    "Grade", "BraTS_2017_subject_ID", "BraTS_2018_subject_ID", "TCGA_TCIA_subject_ID", "BraTS_2019_subject_ID",
    "BraTS_2020_subject_ID",
)  # fmt: skip
SURVIVAL_COLUMNS = ("Brats20ID", "Age", "Survival_days", "Extent_of_Resection")


def write_brats(cases: Iterable[Subject], folder: str | Path) -> Path:
    """Write the cases one by one, each whole or not at all, then name_mapping.csv and survival_info.csv.

    A case needs t1, t1ce, t2, flair and lesions on one grid; of the lesions the labels 1, 2 and 4 are written, all
    others become 0. Of its record "grade" (else "HGG"), "age", "survival_days" and "resection" are written.

    Raises:
        FileExistsError: the folder holds something already.
        ValueError: a case that lacks something, or whose scans lie on several grids.
    """
    folder = new_folder(folder)
    names, survival = [], []
    for case in cases:
        name = f"BraTS20_Training_{case.number:03d}"
        _write_case(case, folder / name)
        names.append({"Grade": case.record.get("grade", "HGG"), "BraTS_2020_subject_ID": name})
        if "survival_days" in case.record:
            days, resection = case.record["survival_days"], case.record.get("resection", "NA")
            known = {"Age": case.record.get("age"), "Survival_days": days, "Extent_of_Resection": resection}
            survival.append({"Brats20ID": name, **known})
    write_csv(folder / "name_mapping.csv", NAME_COLUMNS, names)
    write_csv(folder / "survival_info.csv", SURVIVAL_COLUMNS, survival)
    return folder


def _write_case(case: Subject, folder: Path) -> None:
    scans = needed(case, "BraTS 2020", *MODALITIES, "lesions")
    lesions = scans.pop("lesions")
    labels = np.where(np.isin(lesions.array, LABELS), lesions.array, 0).astype(np.uint8)
    scans["seg"] = lesions.like(labels)
    on_one_grid(case, *scans.values())
    with replacing(folder) as staged:
        for name, scan in scans.items():
            write(scan, staged / f"{folder.name}_{name}.nii.gz")
