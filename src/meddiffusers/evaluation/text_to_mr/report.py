"""Evaluation of a text-to-MR model on the prompts of held-out slices.

| metric | computed from |
|---|---|
| those of `fidelity` | generated images against held-out and training images |
| those of `prompt_adherence` | attributes predicted for the generated images against the prompts |
| the same with `_real` | attributes predicted for the held-out images: the predictor's own errors |
| `swapped_modality_accuracy` | images from the same prompts and noise in another modality, predicted as that modality |
| `swapped_dice` | mean Dice of white matter, grey matter and ventricles between such an image and the first |
| `swapped_dice_real` | the same for held-out images of one slice in two modalities |
| `rms_same_prompt`, `rms_held_out` | RMS difference of two images from one prompt, and of two held-out images |
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
from meddiffusers.pipelines.text_to_mr_pipeline import TextToMRPipeline

ANATOMY: Mapping[str, tuple[int, ...]] = {
    "white matter": (2, 41),
    "grey matter": (3, 42),
    "lateral ventricles": LATERAL_VENTRICLES,
}
SHOWN = 8


def evaluate_text_to_mr(
    pipeline: TextToMRPipeline,
    predictor: SliceAttributePredictor,
    rows: datasets.Dataset,
    known: datasets.Dataset,
    *,
    dataset: str,
    seed: int = 0,
    **settings: Any,
) -> Report:
    """Generate images from the prompts of held-out slices, and evaluate them.

    Args:
        pipeline: The pipeline to evaluate.
        predictor: Independent predictor of the attributes of slices.
        rows: Held-out rows, as `datasets.captioned_slices` makes them.
        known: Training rows.
        dataset: Name of the data, for the report.
        seed: Seed of the noise and of the intervals.
        **settings: Further arguments of the pipeline.
    """
    targets, subjects = targets_of(rows), list(rows["subject"])

    def generate(targets: Sequence[SliceFacts], seed: int) -> np.ndarray:
        return generate_from_prompts(pipeline, prompts_of(pipeline, targets), seed, **settings)

    mean = partial(_mean, dataset=dataset, seed=seed)
    real, images, again = real_images(rows), generate(targets, seed), generate(targets, seed + 1)
    modalities = sorted({facts.modality for facts in targets})
    swapped = {name: generate(in_modality(targets, name), seed) for name in modalities}
    fidelity = evaluate_generation(
        images[:, None], real[:, None], real_images(known)[:, None], ["MR"], dataset=dataset, seed=seed
    )
    predictions, predictions_real = (predict_attributes(predictor, of) for of in (images, real))
    adherence, upper_bound = (
        evaluate_prompt_adherence(targets, each, subjects, dataset=dataset, seed=seed)
        for each in (predictions, predictions_real)
    )
    metrics = [*fidelity.metrics, *adherence.metrics]
    metrics += [
        replace(metric, key=f"{metric.key}_real", name=f"{metric.name}, real images") for metric in upper_bound.metrics
    ]
    swapped_predictions = {name: predict_attributes(predictor, of) for name, of in swapped.items()}
    metrics += _swap_metrics(swapped_predictions, predictions, targets, subjects, mean)
    metrics += _swap_metrics_of_real_images(predictions_real, targets, subjects, mean)
    same_prompt, held_out = _rms_difference(images, again), _rms_difference(real, np.roll(real, 1, axis=0))
    title = "RMS difference of two images"
    metrics.append(mean("rms_same_prompt", f"{title}, from one prompt", "rms", same_prompt, subjects))
    metrics.append(mean("rms_held_out", f"{title}, held-out", "rms", held_out, subjects))
    caption = "Held-out images, images generated from their prompts, and the same prompts and noise in each modality"
    figures = {**fidelity.figures, **adherence.figures, caption: _panel(real, images, swapped)}
    return Report(metrics, run_facts(seed), {**fidelity.details, **adherence.details}, figures)


def anatomy_dice(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(B,) mean Dice of `ANATOMY` between label maps (B, H, W), over the parts that either map has; NaN without any."""
    per_part = []
    for labels in ANATOMY.values():
        a, b = np.isin(first, labels), np.isin(second, labels)
        size = a.sum(axis=(1, 2)) + b.sum(axis=(1, 2))
        overlap = 2.0 * (a & b).sum(axis=(1, 2))
        per_part.append(np.divide(overlap, size, out=np.full(len(first), np.nan), where=size > 0))
    dice = np.stack(per_part)
    known = ~np.isnan(dice)
    total = np.where(known, dice, 0).sum(axis=0)
    return np.divide(total, known.sum(axis=0), out=np.full(len(first), np.nan), where=known.any(axis=0))


def _swap_metrics(
    swapped: Mapping[str, SlicePredictions],
    predictions: SlicePredictions,
    targets: Sequence[SliceFacts],
    subjects: Sequence[str],
    mean: Callable[..., Metric],
) -> list[Metric]:
    """Metrics of images in another modality than the prompt's; empty if there is only one modality."""
    correct, dice, owners = [], [], []
    for name, other in swapped.items():
        rows = [i for i, facts in enumerate(targets) if facts.modality != name]
        correct += [other.modalities[i] == name for i in rows]
        dice += anatomy_dice(predictions.labels[rows], other.labels[rows]).tolist()
        owners += [subjects[i] for i in rows]
    if not owners:
        return []
    title = "Same prompt and noise, other modality"
    return [
        mean("swapped_modality_accuracy", f"{title}, accuracy", "accuracy", np.array(correct, float), owners),
        mean("swapped_dice", f"{title}, Dice of the anatomy", "dice", np.array(dice), owners),
    ]


def _swap_metrics_of_real_images(
    predictions: SlicePredictions, targets: Sequence[SliceFacts], subjects: Sequence[str], mean: Callable[..., Metric]
) -> list[Metric]:
    """Dice of pairs of real images of one slice in two modalities; empty without such pairs."""
    slices: dict[tuple[str, int | None], list[int]] = {}
    for i, (facts, subject) in enumerate(zip(targets, subjects, strict=True)):
        slices.setdefault((subject, facts.number), []).append(i)
    pairs = [
        pair
        for same in slices.values()
        for pair in combinations(same, 2)
        if targets[pair[0]].modality != targets[pair[1]].modality
    ]
    if not pairs:
        return []
    first, second = (predictions.labels[list(side)] for side in zip(*pairs, strict=True))
    name = "One slice in two modalities, Dice of the anatomy, real images"
    owners = [subjects[pair[0]] for pair in pairs]
    return [mean("swapped_dice_real", name, "dice", anatomy_dice(first, second), owners)]


def _rms_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(B,) RMS differences of images (B, H, W)."""
    return np.sqrt(np.square(first - second).mean(axis=(1, 2)))


def _mean(
    key: str, name: str, type: str, values: np.ndarray, subjects: Sequence[str], *, dataset: str, seed: int
) -> Metric:
    low, high = bootstrap_mean_interval(values, subjects, seed)
    return Metric(key, name, type, float(np.nanmean(values)), dataset, len(values), low, high, OVER_SUBJECTS)


def _panel(real: np.ndarray, images: np.ndarray, swapped: Mapping[str, np.ndarray]) -> PIL.Image.Image:
    chosen = np.linspace(0, len(real) - 1, min(SHOWN, len(real))).astype(int)
    rows = {"held-out": real[chosen], "generated": images[chosen]}
    rows |= {f"in {name}": swap[chosen] for name, swap in swapped.items()}
    return panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0)))
