"""Training data of shape models: short-axis slices cropped around the left ventricle, with their attributes.

Every slice that shows the LV and the myocardium is an image. The slices of a volume are cropped by one region, so that
the ventricle's position varies from slice to slice, and the region is shifted at random.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import datasets
import numpy as np
import PIL.Image

from meddiffusers.datasets.short_axis.attributes import SHORT_AXIS_ATTRIBUTES, measure_short_axis
from meddiffusers.datasets.short_axis.volumes import ShortAxisVolume, load_short_axis_volumes
from meddiffusers.pipelines.meddiffusers_cardiac_labels_v1 import LV, MYO
from meddiffusers.pipelines.meddiffusers_cardiac_region_v1 import lv_region

SHIFT = 4.0  # mm, standard deviation of the region's centre around that of the left ventricle

logger = logging.getLogger(__name__)


def load_short_axis_slices(
    name: str, *, size: int, spacing: float, test_fraction: float = 0.2, seed: int = 0
) -> datasets.DatasetDict:
    """Load label maps with attributes as splits "train" and "test", which share no patient.

    Args:
        name: Folder of ACDC or .npz file, as in `load_short_axis_volumes`.
        size: Edge length of the label maps in pixels.
        spacing: Edge length of a pixel in mm. An .npz file has no size of pixels: 1 keeps those that it has.
        test_fraction: Fraction of the patients in the test split, where the folder does not define it.
        seed: Seed of the split and of the random shifts.

    Returns:
        Columns image (label maps, `size` × `size`: 1 LV, 2 myocardium), the attributes (measured in them) and subject.
        Slices whose ventricle does not fit into the image are left out, with a warning.

    Raises:
        ValueError: If no slice is left, or as `load_short_axis_volumes`.
    """
    rows = {}
    for split in ("train", "test"):
        volumes = load_short_axis_volumes(name, split, test_fraction=test_fraction, seed=seed)
        rows[split] = list(_rows(volumes, size, spacing, seed))
        if not rows[split]:
            raise ValueError(
                f"{name}: the split {split} has no slice that shows the LV and the myocardium within {size} pixels of "
                f"{spacing:g} mm. Check the labels (1 RV, 2 myocardium, 3 LV), or give a larger sample_size or spacing."
            )
    return datasets.DatasetDict(
        {split: datasets.Dataset.from_list(each, features=_features()) for split, each in rows.items()}
    )


def _rows(volumes: Iterable[ShortAxisVolume], size: int, spacing: float, seed: int) -> Iterator[dict[str, Any]]:
    cut = 0
    for i, volume in enumerate(volumes):
        images = _crop(volume, size, spacing, np.random.default_rng([seed, i]))
        whole = ~_touches_edge(images)
        cut += int((~whole).sum())
        for image, values in zip(images[whole], measure_short_axis(images[whole], spacing), strict=True):
            if np.isfinite(values).all():  # coarser pixels may have lost a small cavity
                attributes = dict(zip(SHORT_AXIS_ATTRIBUTES, values.tolist(), strict=True))
                yield {"image": PIL.Image.fromarray(image), **attributes, "subject": volume.subject}
    if cut:
        logger.warning(
            "%d slices are left out, as the ventricle does not fit into %d pixels of %g mm.", cut, size, spacing
        )


def _crop(volume: ShortAxisVolume, size: int, spacing: float, rng: np.random.Generator) -> np.ndarray:
    """Crop the slices that show LV and myocardium: label maps `(B, size, size)`."""
    shown = [frame for frame in volume.labels if (frame == LV).any() and (frame == MYO).any()]
    if not shown:
        return np.empty((0, size, size), np.uint8)
    region = lv_region(np.stack(shown), volume.spacing, size, spacing)
    offset = rng.standard_normal(2).clip(-2, 2) * SHIFT / np.asarray(volume.spacing)
    row, column = np.asarray(region.centre) + offset
    return replace(region, centre=(float(row), float(column))).crop(np.stack(shown))


def _touches_edge(images: np.ndarray) -> np.ndarray:
    """Return whether label maps `(B, H, W)` have labels in their outermost pixels."""
    inner = images.copy()
    inner[:, 1:-1, 1:-1] = 0
    return np.asarray(inner.any(axis=(1, 2)))


def _features() -> datasets.Features:
    return datasets.Features(
        image=datasets.Image(mode="L"),
        **dict.fromkeys(SHORT_AXIS_ATTRIBUTES, datasets.Value("float64")),
        subject=datasets.Value("string"),
    )
