"""Training data of a model of whole volumes: one kind of row, here of brain phantoms.

image    (C, X, Y, Z) int16   round(`INTENSITY_SCALE` × intensity), with intensities within [0, 1]; RAS
regions  (X, Y, Z) int16      FreeSurfer's label ids of `data.regions`, 0 elsewhere
subject  string               whose brain it is
age (years), sex ("F", "M"), brain_volume_ml, ventricular_volume_ml: covariates, as they were measured on the anatomy
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import numpy as np
import torch

from meddiffusers.data.brain_phantom.population import VERSION
from meddiffusers.data.brain_phantom.subject import EXTENT, BrainPhantom
from meddiffusers.data.segmentation_slices import stored

COVARIATES = ("age", "sex", "brain_volume_ml", "ventricular_volume_ml")
WRITTEN_AT_ONCE = 16  # rows: at 2 mm about 50 MB of memory
_VERSION = 1  # of what a row holds: raise it with every change that a cached data set must not outlive


def phantom_volumes(
    n: int,
    seed: int = 0,
    *,
    spacing: float = 2.0,
    sequences: Sequence[str] = ("t1",),
    num_proc: int | None = None,
) -> datasets.Dataset:
    """n healthy brains without skull, of 160 × 192 × 160 mm, made once and cached; the same for any num_proc.

    Raises:
        ValueError: n or seed too small, or as `BrainPhantom.volume` does.
    """
    if n < 1 or seed < 0:
        raise ValueError(f"Got n={n} and seed={seed}; expected at least one brain, and a seed of 0 or more.")
    sizes = [int(np.ceil(mm / spacing)) for mm in EXTENT]
    features = datasets.Features(
        image=datasets.Array4D((len(sequences), *sizes), "int16"),
        regions=datasets.Array3D(tuple(sizes), "int16"),
        subject=datasets.Value("string"),
        age=datasets.Value("float32"),
        sex=datasets.Value("string"),
        brain_volume_ml=datasets.Value("float32"),
        ventricular_volume_ml=datasets.Value("float32"),
    )
    settings: dict[str, Any] = {
        "jobs": [(seed, index) for index in range(n)],
        "spacing": float(spacing),
        "sequences": tuple(sequences),
        "version": (VERSION, _VERSION),
    }
    return datasets.Dataset.from_generator(
        _rows, features=features, gen_kwargs=settings, num_proc=num_proc, writer_batch_size=WRITTEN_AT_ONCE
    )


def _rows(
    jobs: list[tuple[int, int]], spacing: float, sequences: tuple[str, ...], version: tuple[int, int]
) -> Iterator[dict[str, Any]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # processes share the cores, and a forked one may not use its parent's threads
    try:
        for seed, index in jobs:
            brain = BrainPhantom(int(np.random.default_rng([seed, index]).integers(2**31)))
            case = brain.volume(spacing, sequences)
            yield {
                "image": stored(np.concatenate([scan.array for scan in case.images.values()])),
                "regions": case.regions.array[0].astype(np.int16) if case.regions else None,
                "subject": f"{seed}-{index}",
                **{name: brain.record[name] for name in COVARIATES},
            }
    finally:
        torch.set_num_threads(threads)
