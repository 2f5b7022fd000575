"""Training data of the cardiac VAE: label maps cropped around the left ventricle, with their attributes.

Each sequence gives some evenly spaced frames. The region of interest is shifted at random, since the left ventricle
moves within the region of a sequence. Every second patient is mirrored. Half the sequences of varied phantoms have
borders that jitter, as those of segmentation networks do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from scipy import ndimage

from meddiffusers.datasets.cardiac_sequences import (
    CARDIAC_PHANTOM,
    VARIED_CARDIAC_PHANTOM,
    CardiacSequence,
    load_cardiac_sequences,
)
from meddiffusers.pipelines.meddiffusers_cardiac_attributes_v1 import CARDIAC_ATTRIBUTES, measure_cardiac_attributes
from meddiffusers.pipelines.meddiffusers_cardiac_labels_v1 import LV, MYO
from meddiffusers.pipelines.meddiffusers_cardiac_masks_v1 import fields_to_labels, signed_distance
from meddiffusers.pipelines.meddiffusers_cardiac_region_v1 import lv_region

PHANTOMS = (CARDIAC_PHANTOM, VARIED_CARDIAC_PHANTOM)
FRAMES = 8  # of a cardiac cycle; the last one equals the first and is left out
SHIFT = 4.0  # mm, standard deviation of the region's centre around that of the left ventricle
JITTER = (0.2, 1.2)  # mm, standard deviations of the borders
CORRELATION = 7.0  # mm along the borders
VERSION = 1  # of the cached data: raise it if the frames or a measurement change


def load_cardiac_frames(
    name: str, *, size: int, spacing: float, sequences: int | None = None, seed: int = 0
) -> datasets.DatasetDict:
    """Load label maps with attributes as splits "train" and "test".

    Args:
        name: "cardiac_phantom", "cardiac_phantom_varied" or a CAMUS folder, as in `load_cardiac_sequences`.
        size: Edge length of the label maps in pixels.
        spacing: Edge length of a pixel in mm.
        sequences: Number of training sequences of the phantom, which has a tenth as many test sequences; upper limit
            for the training sequences of a folder.
        seed: Seed of the random shifts.

    Returns:
        Columns image (label maps, `size` × `size`), the seven attributes (measured in them), subject and view.
    """
    tenth = sequences and max(1, sequences // 10)
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_generator(
                _rows,
                features=_features(),
                gen_kwargs={
                    "name": name,
                    "split": split,
                    "count": count,
                    "size": size,
                    "spacing": spacing,
                    "seed": seed,
                    "state": f"{VERSION} {_file_state(name)}",  # a string, since a list would be taken for shards
                },
            )
            for split, count in (("train", sequences), ("test", tenth if name in PHANTOMS else None))
        }
    )


def _file_state(name: str) -> str:
    """Label maps of a folder with their sizes and modification times, so that changed files are read again."""
    if name in PHANTOMS:
        return ""
    stats = ((path, path.stat()) for path in sorted(Path(name).rglob("*_gt.*")))
    return " ".join(f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats)


def _rows(
    name: str, split: str, count: int | None, size: int, spacing: float, seed: int, state: str
) -> Iterator[dict[str, Any]]:
    del state  # part of the cache's key only
    for i, sequence in enumerate(load_cardiac_sequences(name, split, count, frames=FRAMES)):
        rng = np.random.default_rng([seed, i])
        if name == VARIED_CARDIAC_PHANTOM and rng.random() < 0.5:
            jittered = jitter_borders(sequence.labels, sequence.spacing[0], rng.uniform(*JITTER), rng)
            sequence = replace(sequence, labels=jittered)
        yield from _rows_of_sequence(sequence, size, spacing, rng, mirrored=i % 4 > 1)


def _rows_of_sequence(
    sequence: CardiacSequence, size: int, spacing: float, rng: np.random.Generator, mirrored: bool
) -> Iterator[dict[str, Any]]:
    last = len(sequence.labels) - 1
    indices = np.linspace(0, last, FRAMES)[: FRAMES - sequence.cyclic].round()
    labels = sequence.labels[np.unique(indices.astype(int))]
    region = lv_region(labels, sequence.spacing, size, spacing)
    offset = rng.standard_normal(2).clip(-2, 2) * SHIFT / np.asarray(sequence.spacing)
    shifted = replace(region, centre=tuple(np.asarray(region.centre) + offset))
    images = shifted.crop(labels)
    images = images[:, :, ::-1] if mirrored else images
    attributes = measure_cardiac_attributes(images, spacing)
    for image, values in zip(images, attributes, strict=True):
        yield {
            "image": np.ascontiguousarray(image),
            **dict(zip(CARDIAC_ATTRIBUTES, values.tolist(), strict=True)),
            "subject": sequence.subject,
            "view": sequence.view,
        }


def _features() -> datasets.Features:
    return datasets.Features(
        image=datasets.Image(mode="L"),
        **dict.fromkeys(CARDIAC_ATTRIBUTES, datasets.Value("float64")),
        subject=datasets.Value("string"),
        view=datasets.Value("string"),
    )


def jitter_borders(labels: np.ndarray, spacing: float, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Displace the borders of the LV and of LV and myocardium along their normals, each in each frame by itself.

    Args:
        labels: Label maps `(T, H, W)`; other labels than LV and myocardium become background.
        spacing: Edge length of a pixel in mm.
        deviation: Standard deviation of the displacement in mm.
        rng: Generator.

    Returns:
        Label maps `(T, H, W)`, uint8.
    """
    distances = (signed_distance(mask, (spacing, spacing)) for mask in (labels == LV, np.isin(labels, (LV, MYO))))
    lv, lv_myo = (distance + deviation * _smooth_noise(labels.shape, spacing, rng) for distance in distances)
    return fields_to_labels(lv, lv_myo)


def _smooth_noise(shape: tuple[int, ...], spacing: float, rng: np.random.Generator) -> np.ndarray:
    """Noise (T, H, W) of unit deviation, correlated within a frame."""
    step = CORRELATION / 3 / spacing  # pixels between the points of a coarser grid
    coarse = [int(np.ceil(side / step)) + 3 for side in shape[1:]]
    noise = ndimage.gaussian_filter(rng.standard_normal((shape[0], *coarse)), (0, 1.5, 1.5), mode="wrap")
    scale = [1.0, 1 / step, 1 / step]
    noise = ndimage.affine_transform(noise / noise.std(), scale, [0, 1, 1], shape, order=1, mode="nearest")
    return noise.astype(np.float32)
