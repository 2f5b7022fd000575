"""Images with their attributes, from the shipped digits, a folder of images, or any `datasets` repository."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch

from meddiffusers.data.digits import digits, measured
from meddiffusers.data.measures import MEASURES

DIGITS = "digits"


def load_attribute_images(
    name: str,
    *,
    attributes: Sequence[str],
    measure: str | None = None,
    image_column: str = "image",
    seed: int = 0,
    test_fraction: float = 0.2,
    max_samples: int | None = None,
) -> datasets.DatasetDict:
    """Splits train and test, with a column for the image and one for each attribute.

    name: "digits" (5,000 of MNIST, measured), a folder of images (with `metadata.csv` for attributes, if any), or a
        repository of the Hub. Without a test split, `test_fraction` of the images is held out by `seed`.
    measure: a name of `MEASURES` that fills in attributes which are no columns yet.

    Raises:
        ValueError: a column or attribute that is not there, or an unknown measure.
    """
    if measure is not None and measure not in MEASURES:
        raise ValueError(f"measure={measure!r} is unknown. Expected one of {', '.join(MEASURES)}.")
    data = digits(seed) if name == DIGITS else _load(name)
    if "test" not in data:
        data = data["train"].train_test_split(test_size=test_fraction, seed=seed)
    if max_samples is not None:
        data["train"] = data["train"].select(range(min(max_samples, len(data["train"]))))
    columns = data["train"].column_names
    missing = [attribute for attribute in attributes if attribute not in columns]
    if image_column not in columns:
        raise ValueError(f"{name} has no column {image_column!r}; it has {', '.join(columns)}. Set image_column.")
    if missing and (measure is None or not set(missing) <= set(MEASURES[measure].units)):
        raise ValueError(
            f"{name} has no column for {', '.join(missing)}, and measure={measure!r} does not give them. "
            f"It has {', '.join(columns)}; measures are {', '.join(MEASURES)}."
        )
    if not missing or measure is None:
        return data
    names, function = list(MEASURES[measure].units), MEASURES[measure].function
    return datasets.DatasetDict({key: measured(part, function, names, image_column) for key, part in data.items()})


class AttributeImages:
    """A split held in memory, as the engine's map-style data set.

    images: (N, C, H, W) in the integer type they were stored in, or label maps (N, H, W);
    attributes: (N, A) float64, as measured. Rows with a missing attribute or of NaN are left out and counted.
    """

    def __init__(self, split: datasets.Dataset, attributes: Sequence[str], image_column: str, labels: bool) -> None:
        table = np.stack([np.asarray(split[name], float) for name in attributes], 1) if attributes else None
        complete = np.ones(len(split), bool) if table is None else np.isfinite(table).all(axis=1)
        self.left_out = int((~complete).sum())
        pictures = [np.asarray(image) for image, keep in zip(split[image_column], complete, strict=True) if keep]
        shapes = {picture.shape for picture in pictures}
        if len(shapes) != 1:
            raise ValueError(
                f"Images of {len(shapes)} shapes, such as {sorted(shapes)[:3]}; expected one. Resize or crop."
            )
        stacked = torch.from_numpy(np.stack(pictures))
        if labels:
            self.images = stacked
        else:
            self.images = stacked[:, None] if stacked.ndim == 3 else stacked.permute(0, 3, 1, 2).contiguous()
        self.attributes = np.zeros((len(stacked), 0)) if table is None else table[complete]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"images": self.images[index], "attributes": self.attributes[index]}


def is_folder(name: str) -> bool:
    """Whether a data set's name is a folder on this machine."""
    return Path(name).is_dir()


def _load(name: str) -> datasets.DatasetDict:
    if is_folder(name):
        return datasets.load_dataset("imagefolder", data_dir=name)
    return datasets.load_dataset(name)
