"""Slices of brain phantoms as a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import datasets
import numpy as np
import torch

from meddiffusers.data.phantoms.brain.contrasts import MODALITIES
from meddiffusers.data.phantoms.brain.lesions.kinds import KINDS
from meddiffusers.data.phantoms.brain.population import random_phantom
from meddiffusers.data.subject import Subject
from meddiffusers.datasets.generated import generated_rows

VERSION = 4  # of the phantom: raise it with every change that invalidates cached data sets
SHARES = {None: 0.3, "tumour": 0.4, "white_matter_lesions": 0.15, "cavity": 0.15}
HEIGHTS = (-25.0, 50.0)  # mm, of slices that are not placed at a lesion


def phantom_slices(
    n: int,
    seed: int = 0,
    size: int = 128,
    *,
    modalities: Sequence[str] = MODALITIES[:4],
    shares: Mapping[str | None, float] | None = None,
    per_subject: int = 1,
    difficulty: tuple[float, float] = (0.0, 1.0),
    heights: tuple[float, float] = HEIGHTS,
    skull: float = 0.0,
    num_proc: int | None = None,
) -> datasets.Dataset:
    """Generate axial slices with a field of view of 208 mm; built once and cached.

    Args:
        n: number of slices.
        seed: of the subjects.
        size: pixels along both axes.
        modalities: C different modalities of `contrasts.MODALITIES`.
        shares: fraction of the subjects with each kind of lesion (None: healthy), by default `SHARES`.
        per_subject: slices per subject; the first contains the lesion, if there is one.
        difficulty: range that the difficulty of lesions is sampled from uniformly.
        heights: range of all other slices in mm above the anterior commissure.
        skull: fraction of the subjects with a skull.
        num_proc: number of processes; the result does not depend on it.

    Returns:
        Rows with the columns image (C, H, W) int16, rows from anterior to posterior and columns from the patient's
        right to left; regions (H, W); lesions (H, W); raters (5, H, W), 0 for healthy subjects; height in mm; subject;
        and the record of the phantom.

    Raises:
        ValueError: unknown kind of lesion, no, unknown or repeated modalities, negative shares or shares that do not
            sum to 1, an invalid fraction or range, or n, size, per_subject or seed too small.
    """
    shares = SHARES if shares is None else shares
    _check_sizes(n=n, size=size, per_subject=per_subject, seed=seed)
    _check_choices(shares, modalities)
    if not (0 <= difficulty[0] <= difficulty[1] <= 1 and heights[0] <= heights[1] and 0 <= skull <= 1):
        raise ValueError(
            f"Got difficulty={difficulty}, heights={heights} and skull={skull}; expected rising ranges, the first "
            "within 0 to 1, and a part from 0 to 1."
        )
    settings = {
        "version": VERSION,
        "size": size,
        "modalities": tuple(modalities),
        "kinds": tuple(shares),
        "weights": tuple(shares.values()),
        "difficulty": tuple(difficulty),
        "heights": tuple(heights),
        "skull": skull,
    }
    jobs = [(seed, index, min(per_subject, n - index * per_subject)) for index in range(-(-n // per_subject))]
    return generated_rows(
        _examples,
        n,
        features=_features(size, len(modalities)),
        gen_kwargs={"jobs": jobs, **settings},
        num_proc=num_proc,
    )


def _check_sizes(**sizes: int) -> None:
    small = {name: value for name, value in sizes.items() if value < (0 if name == "seed" else 1)}
    if small:
        raise ValueError(f"Got {small}; expected n, size and per_subject of at least 1, and a seed of at least 0.")


def _check_choices(shares: Mapping[str | None, float], modalities: Sequence[str]) -> None:
    if not set(shares) <= {None, *KINDS} or not np.isclose(sum(shares.values()), 1) or min(shares.values()) < 0:
        raise ValueError(f"Got the shares {dict(shares)}; expected parts of {', '.join(KINDS)} and None that sum to 1.")
    if not modalities or len(set(modalities)) < len(modalities) or not set(modalities) <= set(MODALITIES):
        raise ValueError(f"Got the modalities {list(modalities)}; expected different ones of {', '.join(MODALITIES)}.")


def _features(size: int, channels: int) -> datasets.Features:
    return datasets.Features(
        image=datasets.Array3D((channels, size, size), "int16"),
        regions=datasets.Array2D((size, size), "int16"),
        lesions=datasets.Array2D((size, size), "uint8"),
        raters=datasets.Array3D((5, size, size), "uint8"),
        height=datasets.Value("float32"),
        subject=datasets.Value("string"),
        age=datasets.Value("float32"),
        sex=datasets.Value("string"),
        brain_volume_ml=datasets.Value("float32"),
        ventricular_volume_ml=datasets.Value("float32"),
        lesion=datasets.Value("string"),
        difficulty=datasets.Value("float32"),
    )


def _examples(
    jobs: list[tuple[int, int, int]],
    version: int,
    size: int,
    modalities: tuple[str, ...],
    kinds: tuple[str | None, ...],
    weights: tuple[float, ...],
    difficulty: tuple[float, float],
    heights: tuple[float, float],
    skull: float,
) -> Iterator[dict[str, Any]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # processes share the cores; a forked process cannot use its parent's threads
    try:
        for seed, index, count in jobs:
            rng = np.random.default_rng([seed, index])
            phantom = random_phantom(rng, kinds, weights, difficulty)
            whole = np.random.default_rng([seed, index, 1]).random() < skull
            take = partial(phantom.slice, size=size, modalities=modalities, skull=whole)
            for height, subject in _slices(phantom.lesion_heights().tolist(), rng.uniform(*heights, count), take, rng):
                yield _example(subject, f"{seed}-{index}", height)
    finally:
        torch.set_num_threads(threads)


def _slices(
    lesion_heights: Sequence[float], heights: np.ndarray, take: Callable[[float], Subject], rng: np.random.Generator
) -> Iterator[tuple[float, Subject]]:
    """Slices with their heights in mm; the first contains the lesion, unless it is smaller than a pixel."""
    remaining = heights.tolist()
    for height in rng.permutation(lesion_heights).tolist():
        subject = take(height)
        if subject.lesions is not None and subject.lesions.array.any():  # lesion heights are from a coarser grid
            remaining.pop(0)
            yield height, subject
            break
    for height in remaining:
        yield height, take(height)


def _example(subject: Subject, subject_id: str, height: float) -> dict[str, Any]:
    def upright(array: np.ndarray) -> np.ndarray:
        """(…, X, Y, 1) → (…, H, W)."""
        return np.ascontiguousarray(np.swapaxes(array[..., ::-1, ::-1, 0], -1, -2))

    images = np.concatenate([scan.array for scan in subject.images.values()])
    blank = np.zeros((5, *images.shape[1:]), np.uint8)
    return {
        "image": upright(images),
        "regions": upright(subject.regions.array[0]) if subject.regions else None,
        "lesions": upright(subject.lesions.array[0]) if subject.lesions else None,
        "raters": upright(subject.raters.array if subject.raters else blank),
        "height": height,
        "subject": subject_id,
        **subject.record,
    }
