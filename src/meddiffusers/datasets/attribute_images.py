"""Images with their attributes, from the shipped digits, a folder of images, or any `datasets` repository."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch

from meddiffusers.datasets.attribute_measures import MEASURES, Measure, get_measure
from meddiffusers.datasets.cardiac_frames import load_cardiac_frames
from meddiffusers.datasets.cardiac_sequences import is_cardiac_dataset
from meddiffusers.datasets.digits import add_measurements, digits

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
    """Splits train and test, with a column for the image and one for each attribute.

    name: "digits" (5,000 of MNIST, measured), "cardiac_phantom" or a CAMUS folder (`load_cardiac_frames`, to which size, spacing and
        sequences go), a folder of images (with `metadata.csv` for attributes, if any), or a repository of the Hub.
        Without a test split, `test_fraction` of the images is held out by `seed`.
    measure: a name of `MEASURES` that fills in attributes which are no columns yet; spacing: mm of a pixel.
    max_samples: keep the first so many training images.

    Raises:
        ValueError: no training split, a column or attribute that is not there, an unknown measure, or images of
            several sizes where they are to be measured.
    """
    measured_by = get_measure(measure, spacing) if measure else None
    if is_cardiac_dataset(name):
        data = load_cardiac_frames(name, size=size, spacing=spacing, sequences=sequences, seed=seed)
    else:
        data = digits(seed) if name == DIGITS else _load(name)
    if "train" not in data:
        raise ValueError(f"{name} has no split 'train'; it has {', '.join(data)}. Rename one.")
    if "test" not in data:
        data = data["train"].train_test_split(test_size=test_fraction, seed=seed)
    if max_samples is not None:
        data["train"] = data["train"].select(range(min(max_samples, len(data["train"]))))
    columns = data["train"].column_names
    if image_column not in columns:
        raise ValueError(f"{name} has no column {image_column!r}; it has {', '.join(columns)}. Set image_column.")
    missing = [attribute for attribute in attributes if attribute not in columns]
    measurable = list(measured_by.units) if measured_by else []
    if not set(missing) <= set(measurable):
        raise ValueError(
            f"{name} has no column for {', '.join(missing)}, and measure={measure!r} does not give them. "
            f"It has {', '.join(columns)}; measures are {', '.join(MEASURES)}."
        )
    if measured_by is None or not missing:
        return data
    return datasets.DatasetDict({key: _filled(part, missing, measured_by, image_column) for key, part in data.items()})


class AttributeImages:
    """A split held in memory, as the engine's map-style data set.

    images: (N, C, H, W) in the type they were stored in, or label maps (N, H, W);
    attributes: (N, A) float64, as measured. Rows with a missing attribute or of NaN are left out and counted.

    Raises:
        ValueError: no image is left, images of several sizes, NaN pixels, an attribute that is no number or that is
            the same for all images.
    """

    def __init__(self, split: datasets.Dataset, attributes: Sequence[str], image_column: str, labels: bool) -> None:
        columns = [_numbers(split, name) for name in attributes]
        table = np.array(columns).reshape(len(columns), len(split)).T
        complete = np.isfinite(table).all(axis=1)
        self.left_out = int((~complete).sum())
        if self.left_out:
            logger.warning("%d of %d images are left out: they lack an attribute.", self.left_out, len(split))
        self.attributes = table[complete]
        _check_variation(self.attributes, attributes)
        rows = np.flatnonzero(complete)
        pixels = torch.from_numpy(_stacked([_pixels(image, labels) for image in split.select(rows)[image_column]]))
        if labels:
            self.images = pixels
        else:
            self.images = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"images": self.images[index], "attributes": self.attributes[index]}


def _load(name: str) -> datasets.DatasetDict:
    if Path(name).is_dir():
        return datasets.load_dataset("imagefolder", data_dir=name)
    return datasets.load_dataset(name)


def _filled(split: datasets.Dataset, missing: Sequence[str], measure: Measure, image_column: str) -> datasets.Dataset:
    """The split with a measured column for each missing attribute."""
    _stacked([np.asarray(image) for image in split[image_column]])  # fails on several sizes in plainer words
    names, function = list(measure.units), measure.function
    wanted = [names.index(name) for name in missing]
    return add_measurements(split, lambda images: function(images)[:, wanted], missing, image_column)


def _numbers(split: datasets.Dataset, name: str) -> np.ndarray:
    try:
        return np.asarray(split[name], dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Attribute column {name!r} holds {split[name][0]!r}; expected numbers ({error}).") from error


def _check_variation(attributes: np.ndarray, names: Sequence[str]) -> None:
    if not len(attributes):
        raise ValueError(f"Every image lacks a number for one of {', '.join(names)}. Check the columns or the measure.")
    constant = [name for name, spread in zip(names, np.ptp(attributes, axis=0), strict=True) if spread == 0]
    if constant:
        raise ValueError(f"{', '.join(constant)}: the same for all images, so no latent can follow. Leave it out.")


def _pixels(image: Any, labels: bool) -> np.ndarray:
    if getattr(image, "mode", None) == "P" and not labels:
        image = image.convert("RGB")  # its pixels are indices into a palette
    return np.asarray(image)


def _stacked(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images of one shape as one array, in the byte order of this machine."""
    shapes = sorted({image.shape for image in images})
    if len(shapes) != 1:
        raise ValueError(f"Images of {len(shapes)} shapes, such as {shapes[:3]}; expected one. Resize or crop them.")
    stacked = np.stack(images)
    if not np.isfinite(stacked).all():
        broken = int((~np.isfinite(stacked)).reshape(len(stacked), -1).any(axis=1).sum())
        raise ValueError(f"{broken} images have pixels that are NaN or infinite. Mend them or leave them out.")
    return stacked
