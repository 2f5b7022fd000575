"""Everything that is measured of a model that draws slices of label maps, on the maps of held-out subjects.

| figure | of |
|---|---|
| those of `generation_report` | how like held-out slices the drawn ones are, and whether any is a training slice |
| Dice, whole and by label | what a segmenter finds in the drawn slices, against the map that was asked for |
| Dice, whole, of 1 cm² or more | the same, of maps with so much of any label: of a few pixels a segmenter sees little |
| the same, "held-out slices" | what it finds in the slices that the maps are of: its own errors |

Dice is the mean over the slices whose map, or what is found, has any of the label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.generation.fidelity import evaluate_generation
from meddiffusers.evaluation.metrics.bootstrap import OVER_SUBJECTS, bootstrap_mean_interval
from meddiffusers.evaluation.metrics.overlap import overlap
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric
from meddiffusers.utils.seeds import sample_generators

SHOWN, BATCH = 8, 32
LARGE = 100.0  # mm²


def evaluate_masks(
    images: np.ndarray,
    held_out: np.ndarray,
    known: np.ndarray,
    masks: np.ndarray,
    subjects: Sequence[str],
    segmenter: Any,
    *,
    modalities: Sequence[str],
    spacing: float | None,
    dataset: str,
    decoded: np.ndarray | None = None,
    seed: int = 0,
) -> Report:
    """Of slices (N, C, H, W) in [0, 1] drawn of `masks` (N, H, W), the maps of `held_out`; `known` are training slices.

    spacing: mm of a pixel, None if not known. decoded: what the autoencoder makes of `held_out`.
    segmenter: a `ConditionalSegmentationPipeline` of these modalities and labels, which has not seen the drawn slices.

    Raises:
        ValueError: a segmenter of other modalities.
    """
    if tuple(segmenter.modalities) != tuple(modalities):
        raise ValueError(
            f"The segmenter sees {', '.join(segmenter.modalities)}; the drawn slices are {', '.join(modalities)}. Give "
            "one of these modalities."
        )
    like = evaluate_generation(images, held_out, known, modalities, dataset=dataset, decoded=decoded, seed=seed)
    found = {"": _segmented(segmenter, images, seed), ", held-out slices": _segmented(segmenter, held_out, seed)}
    metrics = list(like.metrics)
    for note, labels in found.items():
        metrics += _dice_metrics(labels, masks, subjects, segmenter.id2label, spacing, note, dataset, seed)
    chosen = np.flatnonzero(masks.any(axis=(1, 2)))[:SHOWN]
    top = max(int(masks.max()), 1)
    rows = {"asked": masks[chosen] / top}
    rows |= {f"drawn {name}": images[chosen, number] for number, name in enumerate(modalities)}
    rows |= {"found": found[""][chosen] / top}
    title = "Maps of held-out subjects, slices drawn of them, and what a segmenter finds in these"
    figures = {title: panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0))), **like.figures}
    return Report(metrics, like.run, like.details, figures)


def _segmented(segmenter: Any, images: np.ndarray, seed: int) -> np.ndarray:
    """(N, H, W) label maps; row n's noise depends on (seed, n) alone."""
    generators = sample_generators(seed, len(images))
    return segmenter(torch.from_numpy(images), batch_size=BATCH, generator=generators).mask


def _dice_metrics(
    found: np.ndarray,
    masks: np.ndarray,
    subjects: Sequence[str],
    id2label: dict[int, str],
    spacing: float | None,
    note: str,
    dataset: str,
    seed: int,
) -> list[Metric]:
    edges = (1.0, 1.0)  # Dice has no unit
    whole = overlap((found > 0).astype(np.uint8), (masks > 0).astype(np.uint8), [1], edges).dice[:, 0]
    parts = {"whole": whole}
    if spacing is not None:
        area = (masks > 0).sum(axis=(1, 2)) * spacing**2
        parts["whole, of 1 cm² or more"] = np.where(area >= LARGE, whole, np.nan)
    labels = [label for label in id2label if label]
    by_label = overlap(found, masks.astype(found.dtype), labels, edges).dice
    parts |= {id2label[label]: by_label[:, number] for number, label in enumerate(labels)}
    metrics = []
    for name, dice in parts.items():
        counted = np.flatnonzero(~np.isnan(dice))
        if not len(counted):
            continue
        low, high = bootstrap_mean_interval(dice[counted], [subjects[number] for number in counted.tolist()], seed)
        metrics.append(
            Metric(f"Dice, {name}{note}", float(dice[counted].mean()), dataset, len(counted), low, high, OVER_SUBJECTS)
        )
    return metrics
