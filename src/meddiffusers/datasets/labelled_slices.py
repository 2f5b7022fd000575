"""Labelled slices for slice-wise segmentation, here from brain phantoms.

image    (C, H, W) int16   round(`INTENSITY_SCALE` × intensity), with intensities in [0, 1]
masks    (R, H, W) uint8   label ids 0..K-1 of each of R raters
subject  string            subject of the slice

The K - 1 classes besides the background are the three parts of a tumour, in any order, or the single class "tumour" or
"lesion" (all kinds of lesions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
from scipy.ndimage import distance_transform_edt

from meddiffusers.data.labels import to_label_ids
from meddiffusers.data.phantoms.brain.contrasts import MODALITIES
from meddiffusers.data.phantoms.brain.lesions.appearance import LESION_LABELS
from meddiffusers.data.phantoms.brain.lesions.raters import RATERS
from meddiffusers.data.preprocessing.intensities import foreground_window, rescale
from meddiffusers.datasets.phantom_slices import HEIGHTS, phantom_slices

INTENSITY_SCALE = 10_000
PERCENTILES = (1.0, 99.0)
TUMOUR_PARTS = ("necrosis", "oedema", "enhancing")
WHOLE_TUMOUR, ANY_LESION = ("tumour",), ("lesion",)
WRITER_BATCH_SIZE = 100  # rows: at 256² pixels and four channels about 100 MB of memory
_VERSION = 1  # of the rows: raise it with every change that invalidates cached data sets


def phantom_labelled_slices(
    n: int,
    seed: int = 0,
    *,
    size: int = 128,
    modalities: Sequence[str] = MODALITIES[:4],
    classes: Sequence[str] = TUMOUR_PARTS,
    per_subject: int = 1,
    shares: Mapping[str | None, float] | None = None,
    difficulty: tuple[float, float] = (0.0, 1.0),
    heights: tuple[float, float] = HEIGHTS,
    skull: float = 0.0,
    num_proc: int | None = None,
) -> datasets.Dataset:
    """Generate axial slices of brain phantoms with tumour segmentations of five raters; built once and cached.

    Each channel of a slice is normalised independently. Unless the class is "lesion", only tumours are labelled: other
    lesions are background. Raters segment the whole tumour; its parts are those of the nearest pixel of the reference.

    Args:
        n: number of slices.
        seed: see `phantom_slices`, as for the following arguments.
        classes: see `check_classes`.

    Returns:
        Rows with the columns above; reference (H, W) uint8, the mean segmentation of the raters; lesion ("none",
        "tumour", …), difficulty, and height in mm.

    Raises:
        ValueError: see `phantom_slices` and `check_classes`.
    """
    check_classes(classes)
    slices = phantom_slices(
        n,
        seed=seed,
        size=size,
        modalities=modalities,
        shares=shares,
        per_subject=per_subject,
        difficulty=difficulty,
        heights=heights,
        skull=skull,
        num_proc=num_proc,
    )
    return labelled_rows(slices, classes, num_proc)


def labelled_rows(slices: datasets.Dataset, classes: Sequence[str], num_proc: int | None = None) -> datasets.Dataset:
    """Convert the rows of `phantom_slices` to those of `phantom_labelled_slices`."""
    channels, height, width = slices.features["image"].shape
    features = row_features(channels, RATERS, (height, width)) | {
        "reference": datasets.Array2D((height, width), "uint8"),
        "lesion": datasets.Value("string"),
        "difficulty": datasets.Value("float32"),
        "height": datasets.Value("float32"),
    }
    rows = slices.with_format("numpy").map(
        _row,
        fn_kwargs={"classes": tuple(classes), "version": _VERSION},
        remove_columns=[name for name in slices.column_names if name not in features],
        features=datasets.Features(features),
        writer_batch_size=WRITER_BATCH_SIZE,
        num_proc=num_proc,
    )
    return rows.with_format(None).select_columns(list(features))


def row_features(channels: int, raters: int, size: tuple[int, int]) -> dict[str, Any]:
    """Columns that every source of labelled slices has, for `datasets.Features`."""
    return {
        "image": datasets.Array3D((channels, *size), "int16"),
        "masks": datasets.Array3D((raters, *size), "uint8"),
        "subject": datasets.Value("string"),
    }


def check_classes(classes: Sequence[str]) -> None:
    """Raise ValueError unless the classes are the three parts of a tumour in any order, ("tumour",) or ("lesion",)."""
    if sorted(classes) != sorted(TUMOUR_PARTS) and tuple(classes) not in (WHOLE_TUMOUR, ANY_LESION):
        raise ValueError(
            f"Got the classes {', '.join(map(repr, classes)) or 'none'}; expected {', '.join(map(repr, TUMOUR_PARTS))} "
            f"in the order of the label ids, or {WHOLE_TUMOUR[0]!r} or {ANY_LESION[0]!r} alone."
        )


def label_ids(lesions: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Map BraTS labels 1, 2 and 4 to ids 1..K-1 in the order of the classes, uint8; other labels become background.

    For the class "lesion", all labels except 0 become 1.
    """
    stored = to_label_ids(lesions, largest=255)
    if tuple(classes) == ANY_LESION:
        return (stored > 0).astype(np.uint8)
    ids = np.zeros(256, np.uint8)
    for part in TUMOUR_PARTS:
        ids[LESION_LABELS[part]] = 1 if tuple(classes) == WHOLE_TUMOUR else 1 + list(classes).index(part)
    return ids[stored]


def normalise_to_int16(image: np.ndarray) -> np.ndarray:
    """Map percentiles 1 and 99 of each channel's foreground (not 0) to 0 and `INTENSITY_SCALE`.

    Channels without foreground or contrast, as at the ends of a brain, become 0.

    Args:
        image: (C, …).

    Returns:
        (C, …) int16.

    Raises:
        ValueError: NaN or infinite pixels.
    """
    if not np.isfinite(image).all():
        raise ValueError("pixels are NaN or infinite; expected finite ones. Repair the image or leave it out.")
    values = np.zeros(image.shape, np.float32)
    for channel, target in zip(image, values, strict=True):
        try:
            window = foreground_window(channel, PERCENTILES)
        except ValueError:  # no foreground, or no contrast
            continue
        target[:] = rescale(channel[None], window[None], (0, 1))[0]
    return np.rint(values * INTENSITY_SCALE).astype(np.int16)


def _row(row: dict[str, Any], classes: tuple[str, ...], version: int) -> dict[str, Any]:
    labelled = row["lesion"] == "tumour" or classes == ANY_LESION
    reference = label_ids(row["lesions"] * labelled, classes)
    return {
        "image": normalise_to_int16(row["image"]),
        "masks": _rated(row["raters"].astype(np.uint8) * labelled, reference, classes),
        "reference": reference,
    }


def _rated(marks: np.ndarray, reference: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Label the raters' segmentations (R, H, W) of the whole tumour by the nearest pixel of the reference.

    If the reference has no tumour in this slice, the raters' marks are oedema, its rim.
    """
    if not reference.any():
        return marks * np.uint8(1 + classes.index("oedema") if len(classes) > 1 else 1)
    rows, columns = distance_transform_edt(reference == 0, return_distances=False, return_indices=True)
    return marks * reference[rows, columns]
