"""Images with attributes: digits, cardiac frames and slices, a folder of images, or any `datasets` repository."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import torch

from meddiffusers.datasets.attribute_measures import MEASURES, Measure, get_measure
from meddiffusers.datasets.cardiac_frames import load_cardiac_frames
from meddiffusers.datasets.cardiac_sequences import is_cardiac_dataset
from meddiffusers.datasets.digits import add_measurements, digits
from meddiffusers.datasets.public.images import load_images, to_channels
from meddiffusers.datasets.public.splitting import split_by_subject, subjects_of, warn_of_split
from meddiffusers.datasets.short_axis.slices import load_short_axis_slices
from meddiffusers.datasets.short_axis.volumes import is_short_axis_dataset
from meddiffusers.utils.numbers import parse_number

DIGITS = "digits"
logger = logging.getLogger(__name__)


def load_attribute_images(
    name: str,
    *,
    attributes: Sequence[str],
    measure: str | None = None,
    image_column: str = "image",
    seed: int = 0,
    test_fraction: float = 0.2,
    max_samples: int | None = None,
    size: int = 128,
    spacing: float = 1.0,
    sequences: int | None = None,
) -> datasets.DatasetDict:
    """Load the splits train and test with one column for the image and one per attribute.

    Args:
        name: "digits" (5,000 images of MNIST), "cardiac_phantom" or a CAMUS folder (see `load_cardiac_frames`), an ACDC
            folder or an .npz file of label stacks (see `load_short_axis_slices`), a folder of images (optionally with
            metadata.csv for the attributes) or a repository of the Hub, see `load_images`.
        attributes: names of the attributes.
        measure: one of `MEASURES`, to measure attributes that are not columns.
        image_column: column of the images.
        seed: of the split, and of the random shifts of cardiac data.
        test_fraction: fraction of the subjects in the test split, if the data set has none; see `splitting`.
        max_samples: keep only the first training images.
        size: pixels along both axes of cardiac frames and slices.
        spacing: edge length of a pixel in mm.
        sequences: number of cardiac sequences.

    Raises:
        ValueError: no train split, missing column or attribute, unknown measure, or images of several sizes that are to
            be measured.
    """
    measurement = get_measure(measure, spacing) if measure else None
    if is_cardiac_dataset(name):
        data = load_cardiac_frames(name, size=size, spacing=spacing, sequences=sequences, seed=seed)
    elif is_short_axis_dataset(name):
        data = load_short_axis_slices(name, size=size, spacing=spacing, test_fraction=test_fraction, seed=seed)
    elif name == DIGITS:
        data = digits(seed)
    else:
        data = load_images(name, image_column)
        warn_of_split(data, name)
    if "train" not in data:
        raise ValueError(f"{name} has no split 'train'; it has {', '.join(data)}. Rename one.")
    if "test" not in data:
        data = split_by_subject(data["train"], subjects_of(data["train"], name), test_fraction, seed)
    if max_samples is not None:
        data["train"] = data["train"].select(range(min(max_samples, len(data["train"]))))
    columns = data["train"].column_names
    if image_column not in columns:
        raise ValueError(f"{name} has no column {image_column!r}; it has {', '.join(columns)}. Set image_column.")
    missing = [attribute for attribute in attributes if attribute not in columns]
    measurable = list(measurement.units) if measurement else []
    if not set(missing) <= set(measurable):
        raise ValueError(
            f"{name} has no column for {', '.join(missing)}, and measure={measure!r} does not provide them. "
            f"It has {', '.join(columns)}; measures are {', '.join(MEASURES)}."
        )
    if measurement is None or not missing:
        return data
    return datasets.DatasetDict(
        {key: _add_missing(part, missing, measurement, image_column) for key, part in data.items()}
    )


class AttributeImages:
    """Map-style data set of a split in memory. Rows with a missing or NaN attribute are left out.

    Args:
        split: rows with images and attributes.
        attributes: columns of the A attributes.
        image_column: column of the images.
        channels: of the images, see `to_channels`; None for label maps.

    Attributes:
        images: (B, C, H, W) in their stored type, or label maps (B, H, W).
        attributes: (B, A) float64.
        left_out: number of rows that are left out.

    Raises:
        ValueError: no image is left, images have several sizes, NaN pixels, or colours where grey is expected, an
            attribute is not numeric or is the same for all images.
    """

    def __init__(
        self, split: datasets.Dataset, attributes: Sequence[str], image_column: str, channels: int | None
    ) -> None:
        columns = [_numbers(split, name) for name in attributes]
        table = np.array(columns).reshape(len(columns), len(split)).T
        complete = np.isfinite(table).all(axis=1)
        self.left_out = int((~complete).sum())
        if self.left_out:
            logger.warning("%d of %d images are left out: they lack an attribute.", self.left_out, len(split))
        self.attributes = table[complete]
        _check_variation(self.attributes, attributes)
        rows = np.flatnonzero(complete)
        pixels = torch.from_numpy(
            _stack_images([_pixels(image, channels) for image in split.select(rows)[image_column]])
        )
        if channels is None:
            self.images = pixels
        else:
            self.images = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"images": self.images[index], "attributes": self.attributes[index]}


def _add_missing(
    split: datasets.Dataset, missing: Sequence[str], measure: Measure, image_column: str
) -> datasets.Dataset:
    """The split with a measured column for each missing attribute."""
    _stack_images([np.asarray(image) for image in split[image_column]])  # a clear message if sizes differ
    names, function = list(measure.units), measure.function
    indices = [names.index(name) for name in missing]
    return add_measurements(split, lambda images: function(images)[:, indices], missing, image_column)


def _numbers(split: datasets.Dataset, name: str) -> np.ndarray:
    try:
        return np.array(
            [parse_number(value) if isinstance(value, str) else value for value in split[name]], dtype=float
        )
    except (TypeError, ValueError) as error:
        first = next(value for value in split[name] if not isinstance(value, int | float))
        comma = " with a point for decimals, not a comma" if "," in str(first) else ""
        raise ValueError(f"Attribute column {name!r} holds {first!r}; expected numbers{comma}.") from error


def _check_variation(attributes: np.ndarray, names: Sequence[str]) -> None:
    if not len(attributes):
        raise ValueError(f"Every image lacks a number for one of {', '.join(names)}. Check the columns or the measure.")
    constant = [name for name, spread in zip(names, np.ptp(attributes, axis=0), strict=True) if spread == 0]
    if constant:
        raise ValueError(f"{', '.join(constant)}: the same for all images, so no latent can encode it. Leave it out.")


def _pixels(image: Any, channels: int | None) -> np.ndarray:
    if channels is None and getattr(image, "mode", None) == "P":
        return np.asarray(image)  # indices of the palette are the labels
    return to_channels(image, channels or 1)


def _stack_images(images: Sequence[np.ndarray]) -> np.ndarray:
    """Stack images of one shape into one array."""
    shapes = sorted({image.shape for image in images})
    if len(shapes) != 1:
        raise ValueError(f"Images of {len(shapes)} shapes, such as {shapes[:3]}; expected one. Resize or crop them.")
    types = sorted({str(image.dtype) for image in images})
    if len(types) > 1:
        raise ValueError(f"Images of the types {', '.join(types)}; expected one, as their values differ. Convert them.")
    stacked = np.stack(images)
    if not np.isfinite(stacked).all():
        broken = int((~np.isfinite(stacked)).reshape(len(stacked), -1).any(axis=1).sum())
        raise ValueError(f"{broken} images have pixels that are NaN or infinite. Repair them or leave them out.")
    return stacked
