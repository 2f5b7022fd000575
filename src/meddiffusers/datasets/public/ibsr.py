"""IBSR_18: eighteen T1 brains with expert labels of their structures.

From the Center for Morphometric Analysis at Massachusetts General Hospital, by way of NITRC (registration); licence
CC BY-NC, with the centre to be acknowledged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import datasets

from meddiffusers.datasets.public.building import Options, build
from meddiffusers.datasets.public.finding import Index, Row, folders_named, scans_named

SUFFIXES = {"t1": "ana", "seg": "seg_ana", "tissues": "segTRI_ana"}
TISSUES = {0: "background", 1: "cerebrospinal fluid", 2: "grey matter", 3: "white matter"}


def ibsr18(folder: str | Path, **options: Unpack[Options]) -> datasets.DatasetDict:
    """The subjects, from the NIfTI variant or from the Analyze one (images/analyze/…), which becomes NIfTI.

    Columns: subject ("IBSR_01"); t1 (the head) and seg (ids of `data.regions`): 256×128×256 voxels of 0.84 to 1.0 mm,
    1.5 mm from slice to slice, on one grid; tissues (`TISSUES`), where any subject has them. Age and sex are not told.

    options: of `Options`. Raises as `build` does, and ValueError where the folder has another layout.
    """
    found = Index(Path(folder))
    for subject, copies in folders_named(found.folder, r"IBSR_\d{2}").items():
        found.only(subject, "the subject", copies)
        scans = {
            name: found.only(
                subject, f"…_{suffix}", scans_named(copies[0], f"{subject}_{suffix}"), needed=name != "tissues"
            )
            for name, suffix in SUFFIXES.items()
        }
        found.rows.append(Row(subject, subject, scans))
    found.require_rows("IBSR_18", "IBSR_01/IBSR_01_ana.nii.gz and IBSR_01/IBSR_01_seg_ana.nii.gz")
    columns = [name for name in SUFFIXES if any(row.scans[name] for row in found.rows) or name != "tissues"]
    features = {"subject": datasets.Value("string"), **{name: datasets.Nifti() for name in columns}}
    return build(found, features, same_grid=True, label_values={"tissues": TISSUES}, **options)
