"""Any data set of images with masks as labelled slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import torch
from torch.nn.functional import interpolate

from meddiffusers.data.labels import to_label_ids
from meddiffusers.datasets.labelled_slices import WRITER_BATCH_SIZE, normalise_to_int16, row_features
from meddiffusers.datasets.public.images import load_images, to_channels
from meddiffusers.datasets.public.splitting import check_fraction, split_by_subject, subjects_of, warn_of_split

_VERSION = 2  # of the rows: raise it with every change that invalidates cached data sets


def load_labelled_images(
    name: str | Path,
    *,
    size: tuple[int, int],
    modalities: Sequence[str],
    classes: Sequence[str],
    image_column: str = "image",
    mask_column: str = "mask",
    test_fraction: float = 0.1,
    seed: int = 0,
    num_proc: int | None = None,
) -> datasets.DatasetDict:
    """Load a data set of images with masks.

    Each channel of an image is normalised independently.

    Args:
        name: see `load_images`.
        size: (H, W) that images (bilinear) and masks (nearest) are resized to.
        modalities: one name per channel; see `to_channels` for one modality and images with colours.
        classes: one name per label id, from 1.
        image_column: images, or arrays (H, W), (H, W, C) or (C, H, W).
        mask_column: label ids, or 0 and 255 for one class.
        test_fraction: fraction of the subjects in the test split, if the data set has a single split.
        seed: of that split.
        num_proc: number of processes.

    Returns:
        The data set's splits, or train and test as `splitting` divides it, with the columns image, masks (of one rater)
        and subject.

    Raises:
        ValueError: missing columns, another number of channels, colours where grey is expected, masks of another size
            or with other values, test_fraction out of [0, 1), or a single subject to split; see also `load_images`.
    """
    check_fraction(test_fraction)
    data = load_images(name, image_column)
    for split in data.values():
        if mask_column not in split.column_names:
            raise ValueError(
                f"{name} has no column {mask_column!r}; it has {', '.join(split.column_names)}. Set mask_column."
            )
    warn_of_split(data, str(name))
    subjects = {key: subjects_of(split, str(name), key) for key, split in data.items()}
    settings = {"size": size, "channels": len(modalities), "labels": len(classes), "version": _VERSION}
    rows = {
        key: split.map(
            _row_of_images,
            with_indices=True,
            fn_kwargs={
                **settings,
                "columns": (image_column, mask_column),
                "split": key,
                "subjects": subjects[key],
            },
            remove_columns=split.column_names,
            features=datasets.Features(row_features(len(modalities), 1, size)),
            writer_batch_size=WRITER_BATCH_SIZE,
            num_proc=num_proc,
        )
        for key, split in data.items()
    }
    if len(rows) > 1 or not test_fraction:
        return datasets.DatasetDict(rows)
    ((key, only),) = rows.items()
    return split_by_subject(only, subjects[key], test_fraction, seed)


def _row_of_images(
    row: dict[str, Any],
    index: int,
    size: tuple[int, int],
    channels: int,
    labels: int,
    columns: tuple[str, str],
    split: str,
    subjects: list[str],
    version: int,
) -> dict[str, Any]:
    try:
        image, mask = _image(row[columns[0]], channels), _mask(row[columns[1]], labels)
        if image.shape[1:] != mask.shape:
            raise ValueError(f"an image of {image.shape[1:]} pixels and a mask of {mask.shape}; expected one size.")
        pixels = torch.from_numpy(image.astype(np.float32))[None]
        resized = interpolate(pixels, size, mode="bilinear", antialias=True)[0].numpy()
        ids = interpolate(torch.from_numpy(mask)[None, None], size, mode="nearest-exact")[0].numpy()
        values = normalise_to_int16(resized)
    except ValueError as error:
        raise ValueError(f"Split {split}, row {index}: {error}") from None
    return {"image": values, "masks": ids, "subject": subjects[index]}


def _image(value: Any, channels: int) -> np.ndarray:
    """Convert an image, or an array with its channels first or last, to (C, H, W)."""
    array = to_channels(value, channels)
    array = array[None] if array.ndim == 2 else array
    if array.ndim == 3 and array.shape[0] == channels:
        return array
    if array.ndim == 3 and array.shape[2] == channels:
        return np.moveaxis(array, 2, 0)
    raise ValueError(f"an image of shape {array.shape}; expected {channels} channels, one for each modality.")


def _mask(value: Any, labels: int) -> np.ndarray:
    """Convert a mask to label ids (H, W) uint8."""
    if value is None:
        raise ValueError("no mask; expected one for each image: name it, or remove the row.")
    palette = isinstance(value, PIL.Image.Image) and value.mode == "P"  # its indices are the ids
    try:
        array = (np.asarray(value) if palette else to_channels(value, 1)).squeeze()
    except ValueError:
        raise ValueError("a mask with colours; expected label ids as grey values: convert it.") from None
    array = to_label_ids(array)
    found = np.unique(array)
    if labels == 1 and {*found.tolist()} <= {0, 255}:
        array = array > 0
    elif not {*found.tolist()} <= {*range(labels + 1)}:
        raise ValueError(
            f"a mask with the values {', '.join(f'{label:g}' for label in found[:8])}; expected label ids from 0 to "
            f"{labels}{', or 0 and 255' if labels == 1 else ''}."
        )
    if array.ndim != 2:
        raise ValueError(f"a mask of shape {array.shape}; expected (H, W).")
    return array.astype(np.uint8)  # of at most 255, as checked
