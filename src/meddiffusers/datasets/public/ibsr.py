"""IBSR_18: eighteen T1 brains with expert labels of their structures.

From the Center for Morphometric Analysis at Massachusetts General Hospital, available from NITRC (registration);
licence CC BY-NC, with acknowledgement of the centre.
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
    """Load the NIfTI variant, or the Analyze variant (images/analyze/…), which is converted to NIfTI.

    Args:
        folder: the unpacked download.
        **options: see `Options`.

    Returns:
        Splits with the columns subject ("IBSR_01"); t1 (with the head) and seg (ids of `data.regions`), 256×128×256
        voxels of 0.84 to 1.0 mm and slices of 1.5 mm, on one grid; tissues (`TISSUES`), if any subject has them. Age
        and sex are not available.

    Raises:
        DatasetError: see `build`.
        ValueError: the folder has another layout; see also `build`.
    """
    index = Index(Path(folder))
    for subject, copies in folders_named(index.folder, r"IBSR_\d{2}").items():
        index.single(subject, "the subject", copies)
        scans = {
            name: index.single(
                subject, f"…_{suffix}", scans_named(copies[0], f"{subject}_{suffix}"), needed=name != "tissues"
            )
            for name, suffix in SUFFIXES.items()
        }
        index.rows.append(Row(subject, subject, scans))
    index.require_rows("IBSR_18", "IBSR_01/IBSR_01_ana.nii.gz and IBSR_01/IBSR_01_seg_ana.nii.gz")
    columns = [name for name in SUFFIXES if any(row.scans[name] for row in index.rows) or name != "tissues"]
    features = {"subject": datasets.Value("string"), **{name: datasets.Nifti() for name in columns}}
    return build(index, features, same_grid=True, label_values={"tissues": TISSUES}, **options)
