"""Evaluation of a model that generates slices from label maps, on the maps of held-out subjects.

| metric | computed from |
|---|---|
| those of `fidelity` | generated slices against held-out and training slices |
| `dice_whole`, `dice_LABEL` | an independent segmentation of the generated slices against the conditioning map |
| `dice_whole_large` | the same, for maps with at least 1 cm² of foreground |
| `*_held_out` | the segmentation of the held-out slices against their own maps: the segmenter's own errors |

Dice is the mean over the slices in which the map or the segmentation contains the label.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.generation.fidelity import evaluate_generation
from meddiffusers.evaluation.metrics.bootstrap import OVER_SUBJECTS, bootstrap_mean_interval
from meddiffusers.evaluation.metrics.overlap import overlap
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric, metric_key
from meddiffusers.pipelines.conditional_segmentation_pipeline import ConditionalSegmentationPipeline
from meddiffusers.utils.seeds import sample_generators

SHOWN, BATCH = 8, 32
LARGE = 100.0  # mm², least foreground of a large map


def evaluate_masks(
    images: np.ndarray,
    held_out: np.ndarray,
    known: np.ndarray,
    masks: np.ndarray,
    subjects: Sequence[str],
    segmenter: ConditionalSegmentationPipeline,
    *,
    modalities: Sequence[str],
    spacing: float | None,
    dataset: str,
    decoded: np.ndarray | None = None,
    seed: int = 0,
) -> Report:
    """Evaluate slices that were generated from the label maps of held-out slices.

    Args:
        images: Generated slices (B, C, H, W) in [0, 1].
        held_out: The held-out slices (B, C, H, W) that the maps belong to.
        known: Training slices (N, C, H, W).
        masks: Label maps (B, H, W) that conditioned the generation.
        subjects: B names, the subject of each map.
        segmenter: Pipeline with these modalities and labels, trained without generated slices.
        modalities: Names of the C channels.
        spacing: Pixel spacing in mm, None if unknown.
        dataset: Name of the data, for the report.
        decoded: Reconstructions of `held_out` by the autoencoder.
        seed: Seed of the segmenter's noise and of the intervals.

    Raises:
        ValueError: The segmenter expects other modalities.
    """
    if tuple(segmenter.modalities) != tuple(modalities):
        raise ValueError(
            f"The segmenter expects {', '.join(segmenter.modalities)}; the generated slices are "
            f"{', '.join(modalities)}. Give a segmenter for these modalities."
        )
    fidelity = evaluate_generation(images, held_out, known, modalities, dataset=dataset, decoded=decoded, seed=seed)
    segmented = {"": _segment(segmenter, images, seed), "held-out": _segment(segmenter, held_out, seed)}
    metrics = list(fidelity.metrics)
    for source, labels in segmented.items():
        metrics += _dice_metrics(labels, masks, subjects, segmenter.id2label, spacing, source, dataset, seed)
    chosen = np.flatnonzero(masks.any(axis=(1, 2)))[:SHOWN]
    top = max(int(masks.max()), 1)
    rows = {"label map": masks[chosen] / top}
    rows |= {f"generated {name}": images[chosen, channel] for channel, name in enumerate(modalities)}
    rows |= {"segmented": segmented[""][chosen] / top}
    title = "Label maps of held-out subjects, slices generated from them, and the segmentation of these slices"
    figures = {title: panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0))), **fidelity.figures}
    return Report(metrics, fidelity.run, fidelity.details, figures)


def _segment(segmenter: ConditionalSegmentationPipeline, images: np.ndarray, seed: int) -> np.ndarray:
    """(B, H, W) label maps; the noise of slice i depends on (seed, i) only."""
    generators = sample_generators(seed, len(images))
    return segmenter(torch.from_numpy(images), batch_size=BATCH, generator=generators).mask


def _dice_metrics(
    segmented: np.ndarray,
    masks: np.ndarray,
    subjects: Sequence[str],
    id2label: dict[int, str],
    spacing: float | None,
    source: str,
    dataset: str,
    seed: int,
) -> list[Metric]:
    edges = (1.0, 1.0)  # Dice has no unit
    whole = overlap((segmented > 0).astype(np.uint8), (masks > 0).astype(np.uint8), [1], edges).dice[:, 0]
    parts = {"whole": ("whole", whole)}
    if spacing is not None:
        area = (masks > 0).sum(axis=(1, 2)) * spacing**2
        parts["whole_large"] = "whole, maps of 1 cm² or more", np.where(area >= LARGE, whole, np.nan)
    labels = [label for label in id2label if label]
    by_label = overlap(segmented, masks, labels, edges).dice
    parts |= {id2label[label]: (id2label[label], by_label[:, i]) for i, label in enumerate(labels)}
    metrics = []
    for part, (title, dice) in parts.items():
        counted = np.flatnonzero(~np.isnan(dice))
        if not len(counted):
            continue
        low, high = bootstrap_mean_interval(dice[counted], [subjects[i] for i in counted.tolist()], seed)
        key, name = metric_key("dice", part, source), f"Dice, {title}" + (", held-out slices" if source else "")
        value, n = float(dice[counted].mean()), len(counted)
        metrics.append(Metric(key, name, "dice", value, dataset, n, low, high, OVER_SUBJECTS))
    return metrics
