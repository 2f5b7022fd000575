"""BraTS as labelled slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import datasets
import numpy as np

from meddiffusers.data.io import read
from meddiffusers.data.preprocessing.slices import slices
from meddiffusers.data.preprocessing.transforms import Preprocessing
from meddiffusers.data.scan import stack_channels
from meddiffusers.datasets.labelled_slices import (
    INTENSITY_SCALE,
    TUMOUR_PARTS,
    WRITER_BATCH_SIZE,
    check_classes,
    label_ids,
    row_features,
)
from meddiffusers.datasets.public.brats import MODALITIES, brats
from meddiffusers.datasets.public.brats.names import same_ids
from meddiffusers.datasets.public.building import Options

_VERSION = 2  # of the rows: raise it with every change that invalidates cached data sets


def brats_labelled_slices(
    folder: str | Path,
    *,
    size: tuple[int, int],
    spacing: float = 1.0,
    modalities: Sequence[str] = MODALITIES,
    classes: Sequence[str] = TUMOUR_PARTS,
    leave_out: tuple[int, int] = (80, 26),
    **options: Unpack[Options],
) -> datasets.DatasetDict:
    """Cut a BraTS folder into axial slices, split by patient; built once and cached.

    Subjects without a mask are left out. Modalities are normalised by percentiles of the whole volume, as in
    `subject_slices`.

    Args:
        folder: see `brats`.
        size: (H, W), centred on the volume.
        spacing: edge length of the square pixels in mm.
        modalities: channels, some of t1, t1ce, t2, flair.
        classes: see `check_classes`.
        leave_out: number of lowest and of highest slices to leave out.
        **options: see `brats`.

    Returns:
        Splits with the columns image, masks (of one rater) and subject; slices of a subject from inferior to superior.

    Raises:
        DatasetError: see `brats`.
        ValueError: unknown modalities or classes, no subject with a mask, fewer slices than `leave_out`, or see
            `brats`.
    """
    check_classes(classes)
    if not modalities or len({*modalities}) < len(modalities) or not {*modalities} <= {*MODALITIES}:
        raise ValueError(f"Got the modalities {list(modalities)}; expected different ones of {', '.join(MODALITIES)}.")
    subjects = {name: _with_mask(split, modalities) for name, split in brats(folder, **options).items()}
    if not any(map(len, subjects.values())):
        raise ValueError(f"{folder} has no subject with a mask; expected training data, such as BraTS20_Training_001.")
    settings = {"size": size, "spacing": spacing, "classes": tuple(classes), "leave_out": leave_out}
    return datasets.DatasetDict(
        {
            name: split.map(
                _slices_of_subject,
                batched=True,
                batch_size=1,
                fn_kwargs={**settings, "modalities": tuple(modalities), "version": _VERSION},
                remove_columns=split.column_names,
                features=datasets.Features(row_features(len(modalities), 1, size)),
                writer_batch_size=WRITER_BATCH_SIZE,
                num_proc=options.get("num_proc"),
                desc="Cutting",
            )
            for name, split in subjects.items()
            if len(split)
        }
    )


def _with_mask(split: datasets.Dataset, modalities: Sequence[str]) -> datasets.Dataset:
    """Subjects with a mask; scans are paths."""
    if "seg" not in split.column_names:
        return split.select([])
    scans = (*modalities, "seg")
    split = split.select_columns(["subject", "case", *scans])
    for name in scans:
        split = split.cast_column(name, datasets.Nifti(decode=False))
    return split.select([index for index, mask in enumerate(split["seg"]) if mask is not None])


def _slices_of_subject(
    batch: dict[str, list[Any]],
    size: tuple[int, int],
    spacing: float,
    classes: tuple[str, ...],
    leave_out: tuple[int, int],
    modalities: tuple[str, ...],
    version: int,
) -> dict[str, Any]:
    scan = stack_channels([read(batch[name][0], modality=name) for name in modalities])
    mask = same_ids(read(batch["seg"][0], modality="labels"), batch["case"][0])
    ids = mask.like(label_ids(mask.array, classes))
    height, width = size
    preprocess = Preprocessing(spacing=(spacing, spacing, None), size=(width, height, None), crop_foreground=False)
    preprocessed = preprocess(scan, ids)
    both = (preprocessed.image, preprocessed.labels)
    images, masks = (slices(scan, leave_out=leave_out).array for scan in both if scan)
    quantised = np.rint(images * INTENSITY_SCALE).astype(np.int16)
    return {"image": list(quantised), "masks": list(masks), "subject": batch["subject"] * len(images)}
