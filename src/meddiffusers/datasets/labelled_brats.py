"""BraTS as rows of `data.segmentation_slices`."""

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
from meddiffusers.datasets.public.brats import MODALITIES, brats2020
from meddiffusers.datasets.public.building import Options

_VERSION = 1  # of what a row holds: raise it with every change that a cached data set must not outlive


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
    """The axial slices of a BraTS folder, split by patient; made once and cached.

    Columns: image, masks of the one outline there is, and subject; slices of a case from its lowest to its highest.
    Cases without a mask are left out. Sequences are normalised by the percentiles of the whole volume, as
    `subject_slices` does.

    size: (H, W) about the middle of the volume; spacing: mm, of the square pixels; leave_out: so many of the lowest
    and of the highest slices. options: of `brats2020`.

    Raises:
        ValueError: other modalities or classes than there are, no case with a mask, volumes with too few slices for
            `leave_out`, and as `brats2020`.
    """
    check_classes(classes)
    if not modalities or len({*modalities}) < len(modalities) or not {*modalities} <= {*MODALITIES}:
        raise ValueError(f"Got the modalities {list(modalities)}; expected different ones of {', '.join(MODALITIES)}.")
    cases = {name: _with_mask(split, modalities) for name, split in brats2020(folder, **options).items()}
    if not any(map(len, cases.values())):
        raise ValueError(f"{folder} has no case with a mask; expected the training data, BraTS20_Training_001 and on.")
    settings = {"size": size, "spacing": spacing, "classes": tuple(classes), "leave_out": leave_out}
    return datasets.DatasetDict(
        {
            name: split.map(
                _slices_of_case,
                batched=True,
                batch_size=1,
                fn_kwargs={**settings, "modalities": tuple(modalities), "version": _VERSION},
                remove_columns=split.column_names,
                features=datasets.Features(row_features(len(modalities), 1, size)),
                writer_batch_size=WRITER_BATCH_SIZE,
                num_proc=options.get("num_proc"),
                desc="Cutting",
            )
            for name, split in cases.items()
            if len(split)
        }
    )


def _with_mask(split: datasets.Dataset, modalities: Sequence[str]) -> datasets.Dataset:
    """The cases that have one, with their scans as paths."""
    if "seg" not in split.column_names:
        return split.select([])
    scans = (*modalities, "seg")
    split = split.select_columns(["subject", *scans])
    for name in scans:
        split = split.cast_column(name, datasets.Nifti(decode=False))
    return split.select([index for index, mask in enumerate(split["seg"]) if mask is not None])


def _slices_of_case(
    batch: dict[str, list[Any]],
    size: tuple[int, int],
    spacing: float,
    classes: tuple[str, ...],
    leave_out: tuple[int, int],
    modalities: tuple[str, ...],
    version: int,
) -> dict[str, Any]:
    scan = stack_channels([read(batch[name][0], modality=name) for name in modalities])
    mask = read(batch["seg"][0], modality="labels")
    ids = mask.like(label_ids(mask.array, classes))
    height, width = size
    prepare = Preprocessing(spacing=(spacing, spacing, None), size=(width, height, None), crop_foreground=False)
    prepared = prepare(scan, ids)
    images, masks = (slices(each, leave_out=leave_out).array for each in (prepared.image, prepared.labels) if each)
    scaled = np.rint(images * INTENSITY_SCALE).astype(np.int16)
    return {"image": list(scaled), "masks": list(masks), "subject": batch["subject"] * len(images)}
