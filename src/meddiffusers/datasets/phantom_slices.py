"""A data set of slices of brain phantoms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import datasets
import numpy as np
import torch

from meddiffusers.data.phantoms.brain.contrasts import MODALITIES
from meddiffusers.data.phantoms.brain.lesions import KINDS
from meddiffusers.data.phantoms.brain.population import random_phantom
from meddiffusers.data.subject import Subject

VERSION = 4  # of what the phantom draws: raise it with every change that a cached data set must not outlive


SHARES = {None: 0.3, "tumour": 0.4, "white_matter_lesions": 0.15, "cavity": 0.15}


HEIGHTS = (-25.0, 50.0)  # mm, of slices that need not meet a lesion


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
    """n axial slices of size² pixels over 208 mm, made once and cached; the same for every number of processes.

    Columns: image (C, H, W) int16 in the order of `modalities`, rows from the front of the head to the back and columns
    from the patient's right to the left; regions, lesions (H, W); raters (5, H, W), empty of marks where healthy;
    height (mm), subject, and the record of the person.
    shares: part of the subjects with each kind of lesion (None: healthy), by default `SHARES`; difficulty: of the
    lesions, drawn evenly from this range. per_subject: slices of one person, the first of which meets the lesion if
    there is one; the others lie anywhere within `heights`, mm. skull: part of the subjects whose head is whole.

    Raises:
        ValueError: an unknown kind, no, unknown or repeated modalities, shares below 0 or that do not sum to 1, a part
            or a range that makes no sense, or n, size, per_subject or seed too small.
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
    return datasets.Dataset.from_generator(
        _examples, features=_features(size, len(modalities)), gen_kwargs={"jobs": jobs, **settings}, num_proc=num_proc
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
    torch.set_num_threads(1)  # processes share the cores, and a forked one may not use its parent's threads
    try:
        for seed, index, count in jobs:
            draw = np.random.default_rng([seed, index])
            subject = random_phantom(draw, kinds, weights, difficulty)
            whole = np.random.default_rng([seed, index, 1]).random() < skull
            take = partial(subject.slice, size=size, modalities=modalities, skull=whole)
            for height, case in _slices(subject.lesion_heights().tolist(), draw.uniform(*heights, count), take, draw):
                yield _example(case, f"{seed}-{index}", height)
    finally:
        torch.set_num_threads(threads)


def _slices(
    lesion_heights: Sequence[float], heights: np.ndarray, take: Callable[[float], Subject], draw: np.random.Generator
) -> Iterator[tuple[float, Subject]]:
    """Heights in mm and what lies there; the first meets the lesion, unless that is smaller than a pixel."""
    wanted = heights.tolist()
    for height in draw.permutation(lesion_heights).tolist():
        case = take(height)
        if case.lesions is not None and case.lesions.array.any():  # heights come from a grid coarser than the slice
            wanted.pop(0)
            yield height, case
            break
    for height in wanted:
        yield height, take(height)


def _example(case: Subject, subject: str, height: float) -> dict[str, Any]:
    def upright(array: np.ndarray) -> np.ndarray:
        """(…, X, Y, 1) as rows and columns of a image."""
        return np.ascontiguousarray(np.swapaxes(array[..., ::-1, ::-1, 0], -1, -2))

    images = np.concatenate([scan.array for scan in case.images.values()])
    blank = np.zeros((5, *images.shape[1:]), np.uint8)
    return {
        "image": upright(images),
        "regions": upright(case.regions.array[0]) if case.regions else None,
        "lesions": upright(case.lesions.array[0]) if case.lesions else None,
        "raters": upright(case.raters.array if case.raters else blank),
        "height": height,
        "subject": subject,
        **case.record,
    }
