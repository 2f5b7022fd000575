"""Everything that is measured of a text-to-MR model on prompts of held-out slices.

| figure | of |
|---|---|
| those of `generation_report` | how like held-out images the drawn ones are, and whether any is a training image |
| those of `faithfulness` | what a reader finds in the drawn images, against what was asked for |
| the same, "real images" | what it finds in the held-out images: no model can do better |
| swapped: modality | images of the same prompts and noise in another modality, read as of that modality |
| swapped: Dice | regions of such a image against those of the first, mean of white and grey matter and ventricles |
| the same, "real images" | of held-out images of one slice in two modalities: no model can do better |
| spread | RMS difference of two images of one prompt, and of two held-out images |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import Any

import datasets
import numpy as np
import PIL.Image

from meddiffusers.data.prompts import SliceFacts
from meddiffusers.data.regions import LATERAL_VENTRICLES
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.generation.fidelity import evaluate_generation
from meddiffusers.evaluation.metrics.bootstrap import OVER_SUBJECTS, bootstrap_mean_interval
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric, run_facts
from meddiffusers.evaluation.text_to_mr.prompt_adherence import (
    SlicePredictions,
    evaluate_prompt_adherence,
    predict_attributes,
)
from meddiffusers.evaluation.text_to_mr.run import (
    generate_from_prompts,
    in_modality,
    prompts_of,
    real_images,
    targets_of,
)
from meddiffusers.models.slice_attribute_predictor import SliceAttributePredictor

ANATOMY: Mapping[str, tuple[int, ...]] = {
    "white matter": (2, 41),
    "grey matter": (3, 42),
    "lateral ventricles": LATERAL_VENTRICLES,
}
SHOWN = 8


def evaluate_text_to_mr(
    pipeline: Any,
    reader: SliceAttributePredictor,
    rows: datasets.Dataset,
    known: datasets.Dataset,
    *,
    dataset: str,
    seed: int = 0,
    **settings: Any,
) -> Report:
    """Metrics and images on held-out `rows`; `known` are the training rows; `settings` go to the pipeline."""
    asked, subjects = targets_of(rows), list(rows["subject"])
    draw = partial(_drawn, pipeline, settings)
    mean = partial(_mean, dataset=dataset, seed=seed)
    real, images, again = real_images(rows), draw(asked, seed), draw(asked, seed + 1)
    modalities = sorted({facts.modality for facts in asked})
    swapped = {name: draw(in_modality(asked, name), seed) for name in modalities}
    reading = predict_attributes(reader, images)
    like = evaluate_generation(
        images[:, None], real[:, None], real_images(known)[:, None], ["MR"], dataset=dataset, seed=seed
    )
    reading_real = predict_attributes(reader, real)
    faithful, ceiling = (
        evaluate_prompt_adherence(asked, read, subjects, dataset=dataset, seed=seed) for read in (reading, reading_real)
    )
    metrics = [*like.metrics, *faithful.metrics]
    metrics += [replace(metric, name=f"{metric.name}, real images") for metric in ceiling.metrics]
    metrics += _swap_metrics(
        {name: predict_attributes(reader, of) for name, of in swapped.items()}, reading, asked, subjects, mean
    )
    metrics += _ceiling_of_swaps(reading_real, asked, subjects, mean)
    metrics.append(mean("spread of a prompt's images", _apart(images, again), subjects))
    metrics.append(mean("spread of held-out images", _apart(real, np.roll(real, 1, axis=0)), subjects))
    title = "Held-out images, drawn ones of their prompts, and the same prompts and noise in each modality"
    figures = {**like.figures, **faithful.figures, title: _panel(real, images, swapped)}
    return Report(metrics, run_facts(seed), {**like.details, **faithful.details}, figures)


def anatomy_dice(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N,) mean Dice of `ANATOMY` between label maps (N, H, W); what neither has does not count, NaN if all is so."""
    each = []
    for labels in ANATOMY.values():
        a, b = np.isin(one, labels), np.isin(other, labels)
        size = a.sum(axis=(1, 2)) + b.sum(axis=(1, 2))
        overlap = 2.0 * (a & b).sum(axis=(1, 2))
        each.append(np.divide(overlap, size, out=np.full(len(one), np.nan), where=size > 0))
    found = np.stack(each)
    there = ~np.isnan(found)
    total = np.where(there, found, 0).sum(axis=0)
    return np.divide(total, there.sum(axis=0), out=np.full(len(one), np.nan), where=there.any(axis=0))


def _drawn(pipeline: Any, settings: Mapping[str, Any], asked: Sequence[SliceFacts], seed: int) -> np.ndarray:
    return generate_from_prompts(pipeline, prompts_of(pipeline, asked), seed, **settings)


def _swap_metrics(
    swapped: Mapping[str, SlicePredictions],
    reading: SlicePredictions,
    asked: Sequence[SliceFacts],
    subjects: Sequence[str],
    mean: Callable[..., Metric],
) -> list[Metric]:
    """Of images in another modality than the prompt's; none where there is but one."""
    right, dice, whose = [], [], []
    for name, read in swapped.items():
        others = [number for number, facts in enumerate(asked) if facts.modality != name]
        right += [read.modalities[number] == name for number in others]
        dice += anatomy_dice(reading.labels[others], read.labels[others]).tolist()
        whose += [subjects[number] for number in others]
    if not whose:
        return []
    return [
        mean("swapped: modality", np.array(right, float), whose),
        mean("swapped: Dice", np.array(dice), whose),
    ]


def _ceiling_of_swaps(
    reading: SlicePredictions, asked: Sequence[SliceFacts], subjects: Sequence[str], mean: Callable[..., Metric]
) -> list[Metric]:
    """Of pairs of real images that show one slice in two modalities; none where there are no such pairs."""
    slices: dict[tuple[str, int | None], list[int]] = {}
    for number, (facts, subject) in enumerate(zip(asked, subjects, strict=True)):
        slices.setdefault((subject, facts.number), []).append(number)
    pairs = [
        pair
        for same in slices.values()
        for pair in combinations(same, 2)
        if asked[pair[0]].modality != asked[pair[1]].modality
    ]
    if not pairs:
        return []
    one, other = (reading.labels[list(side)] for side in zip(*pairs, strict=True))
    dice = anatomy_dice(one, other)
    return [mean("swapped: Dice, real images", dice, [subjects[pair[0]] for pair in pairs])]


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N,) RMS differences of images (N, H, W)."""
    return np.sqrt(np.square(one - other).mean(axis=(1, 2)))


def _mean(name: str, values: np.ndarray, subjects: Sequence[str], *, dataset: str, seed: int) -> Metric:
    low, high = bootstrap_mean_interval(values, subjects, seed)
    return Metric(name, float(np.nanmean(values)), dataset, len(values), low, high, OVER_SUBJECTS)


def _panel(real: np.ndarray, images: np.ndarray, swapped: Mapping[str, np.ndarray]) -> PIL.Image.Image:
    chosen = np.linspace(0, len(real) - 1, min(SHOWN, len(real))).astype(int)
    rows = {"held-out": real[chosen], "drawn": images[chosen]}
    rows |= {f"as {name}": swap[chosen] for name, swap in swapped.items()}
    return panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0)))
