"""Frames of beating hearts, each in a square around its heart, with their attributes: what a VAE of shapes learns of.

Each beat gives some frames, evenly spread, in a window that is moved a little, as the heart moves in a sequence's.
Every second patient is mirrored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from meddiffusers.datasets.cardiac_sequences import HEARTS, HeartSequence, heart_sequences
from meddiffusers.pipelines.meddiffusers_heart_shapes_v1 import CARDIAC_ATTRIBUTES, measure_hearts
from meddiffusers.pipelines.meddiffusers_heart_windows_v1 import heart_window

FRAMES = 8  # of a beat; a cycle ends as it began
SHIFT = 4.0  # mm, the standard deviation of where the window's middle lies about the heart's
VERSION = 1  # of what is cached: raise it whenever the frames or a measurement change


def heart_frames(
    name: str, *, size: int, spacing: float, sequences: int | None = None, seed: int = 0
) -> datasets.DatasetDict:
    """Splits train and test: image (label maps, size × size), the seven attributes, subject and view.

    name: as of `heart_sequences`; sequences: how many phantoms to train on, and a tenth as many to test; of a folder at
    most so many. spacing: mm of a pixel. Attributes are of the label map as it stands in the window.
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
                    "state": f"{VERSION} {_files(name)}",  # a list would be split, and its parts drawn one by one
                },
            )
            for split, count in (("train", sequences), ("test", tenth if name == HEARTS else None))
        }
    )


def _files(name: str) -> str:
    """The label maps of a folder with their sizes and times, so that changed ones are read again."""
    if name == HEARTS:
        return ""
    found = ((path, path.stat()) for path in sorted(Path(name).rglob("*_gt.*")))
    return " ".join(f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in found)


def _rows(
    name: str, split: str, count: int | None, size: int, spacing: float, seed: int, state: str
) -> Iterator[dict[str, Any]]:
    del state  # it only tells one cache from another
    for number, sequence in enumerate(heart_sequences(name, split, count, frames=FRAMES)):
        rng = np.random.default_rng([seed, number])
        yield from _of_sequence(sequence, size, spacing, rng, mirrored=number % 4 > 1)


def _of_sequence(
    sequence: HeartSequence, size: int, spacing: float, rng: np.random.Generator, mirrored: bool
) -> Iterator[dict[str, Any]]:
    last = len(sequence.labels) - 1
    places = np.linspace(0, last, FRAMES)[: FRAMES - sequence.cyclic].round()
    labels = sequence.labels[np.unique(places.astype(int))]
    window = heart_window(labels, sequence.spacing, size, spacing)
    offset = rng.standard_normal(2).clip(-2, 2) * SHIFT / np.asarray(sequence.spacing)
    moved = replace(window, centre=tuple(np.asarray(window.centre) + offset))
    images = moved.cut(labels)
    images = images[:, :, ::-1] if mirrored else images
    attributes = measure_hearts(images, spacing)
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
