"""Evaluation of a segmentation model on held-out slices, with intervals over subjects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from meddiffusers.evaluation.metrics.bootstrap import OVER_SUBJECTS, bootstrap_interval, bootstrap_mean_interval
from meddiffusers.evaluation.metrics.overlap import Overlap
from meddiffusers.evaluation.metrics.uncertainty import (
    BINS,
    FRACTIONS,
    area_under_rejection,
    expected_calibration_error,
)
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric, metric_key, run_facts
from meddiffusers.evaluation.segmentation.curves import summary_figure
from meddiffusers.evaluation.segmentation.estimates import estimate_metrics
from meddiffusers.evaluation.segmentation.figures import slices_figure
from meddiffusers.evaluation.segmentation.result import SegmentationResult
from meddiffusers.evaluation.segmentation.scores import SegmentationScores, score, strata


def evaluate_segmentation(result: SegmentationResult, *, dataset: str, seed: int = 0) -> Report:
    """Evaluate predictions on held-out slices.

    Args:
        result: Predictions and reference.
        dataset: Name of the data, for the report.
        seed: Seed of the bootstrap over subjects.

    Returns:
        Metrics with 95 % intervals, the curves and counts behind them, and two figures.

    Raises:
        ValueError: No reference has foreground.
    """
    scores = score(result)
    figures = {
        "Slices from best to worst. The first row marks the square that the other rows enlarge. Thin white lines show "
        "the foreground of the reference": slices_figure(result, scores),
        "Reliability of the foreground probability, Dice rejection curve, and Dice by lesion size": summary_figure(
            result, scores
        ),
    }
    return Report(_metrics(result, scores, dataset, seed), run_facts(seed), _details(result, scores), figures)


def segmentation_metrics(result: SegmentationResult, dataset: str, seed: int) -> list[Metric]:
    """All metrics with their 95 % intervals over subjects; N is the number of slices or subjects of the mean.

    Overlap is measured on the whole foreground, on it by lesion size, and on each class if there are several, over the
    slices whose reference contains it. If the probability may come from the prior logits or from the members, Dice and
    calibration are measured for both. Metrics without data are left out, such as false positives where every slice has
    foreground.

    Args:
        result: Predictions and reference.
        dataset: Name of the data.
        seed: Seed of the bootstrap over subjects.

    Raises:
        ValueError: No reference has foreground.
    """
    return _metrics(result, score(result), dataset, seed)


def _metrics(result: SegmentationResult, scores: SegmentationScores, dataset: str, seed: int) -> list[Metric]:
    def mean(
        key: str, name: str, values: np.ndarray, note: str, type: str = "", subjects: Sequence[str] = result.subjects
    ) -> Metric:
        low, high = bootstrap_mean_interval(values, subjects, seed)
        known = values[~np.isnan(values)]
        value = float(known.mean()) if len(known) else np.nan
        return Metric(key, name, type, value, dataset, len(known), low, high, OVER_SUBJECTS, note)

    def agreement(title: str, scores: Overlap, note: str) -> list[Metric]:
        empty = f"{note}; {diagonal:.0f} mm where the mask has none"
        return [
            mean(metric_key("dice", title), f"Dice, {title}", scores.dice, note, "dice"),
            mean(metric_key("jaccard", title), f"Jaccard index, {title}", scores.jaccard, note, "jaccard"),
            mean(metric_key("hd95", title), f"HD95, {title} [mm]", scores.hd95, empty, "hausdorff"),
        ]

    has = "slices whose reference has"
    diagonal = np.linalg.norm(np.multiply(result.mask.shape[1:], result.spacing))
    metrics = agreement("whole", scores.whole, f"{has} foreground")
    for title, inside in strata(result.area).items():
        metrics += agreement(f"whole, {title}", scores.whole.where(inside), f"{has} foreground of this area")
    names = [name for label, name in sorted(result.id2label.items()) if label > 0]
    for column, name in enumerate(names if len(names) > 1 else []):
        metrics += agreement(name, scores.classes[:, column], f"{has} the class")
    metrics += [
        mean(
            "false_positive_slices",
            "Slices with a false positive",
            scores.false_positive,
            "fraction of the slices without foreground in which the mask has any",
        ),
        _calibration(result, scores, dataset, seed),
        mean(
            "auroc_error_uncertainty",
            "AUROC of errors by uncertainty",
            scores.auroc,
            "mean over subjects, over the pixels of the head",
            "roc_auc",
            scores.subjects,
        ),
        mean(
            "dice_rejection_auc",
            f"Area under the Dice rejection curve up to {FRACTIONS[-1]:.0%}",
            area_under_rejection(scores.rejection),
            "mean over subjects, over all pixels; rejected pixels get their true label",
            subjects=scores.subjects,
        ),
    ]
    energy, title, all_slices = (
        scores.energy,
        "Generalised energy distance",
        "all slices, also those without foreground",
    )
    every_pair = f"{all_slices}; all pairs of {result.samples.shape[1]} samples, as Kohl et al."
    metrics += [
        mean("ged_samples", f"{title}, samples", energy.samples, f"{all_slices}; unbiased", "ged"),
        mean("ged_mask", f"{title}, mask only", energy.mask, f"{all_slices}; unbiased", "ged"),
        mean("ged_samples_all_pairs", f"{title}, samples, all pairs", energy.kohl, every_pair, "ged"),
    ]
    metrics += estimate_metrics(result, dataset, seed)
    return [metric for metric in metrics if np.isfinite(metric.value)]


def _calibration(result: SegmentationResult, scores: SegmentationScores, dataset: str, seed: int) -> Metric:
    def error(rows: np.ndarray) -> float:
        return float(expected_calibration_error(scores.bins[rows].sum(axis=0)))

    everyone = np.arange(len(scores.subjects))
    low, high = bootstrap_interval(error, scores.subjects, seed)
    note, name = f"pixels of the head, {BINS} bins of the foreground probability", "Expected calibration error"
    return Metric("ece", name, "ece", error(everyone), dataset, len(result.mask), low, high, OVER_SUBJECTS, note)


def _details(result: SegmentationResult, scores: SegmentationScores) -> dict[str, object]:
    pixels, probability, foreground = scores.bins.sum(axis=0)
    filled = pixels > 0
    curves = {"by uncertainty": scores.rejection, "errors first": scores.best, "at random": scores.random}
    return {
        "slices": len(result.mask),
        "subjects": len(scores.subjects),
        "samples": result.samples.shape[1],
        "raters": result.raters.shape[1],
        "spacing_mm": list(map(float, result.spacing)),
        "classes": {str(label): name for label, name in sorted(result.id2label.items())},
        "strata": {title: int(inside.sum()) for title, inside in strata(result.area).items()},
        "reliability": {
            "bins": np.flatnonzero(filled).tolist(),
            "pixels": pixels[filled].astype(int).tolist(),
            "mean_probability": (probability[filled] / pixels[filled]).tolist(),
            "foreground": (foreground[filled] / pixels[filled]).tolist(),
        },
        "rejection": {
            "fraction": FRACTIONS.tolist(),
            **{name: np.nanmean(curve, axis=0).tolist() for name, curve in curves.items()},
        },
    }
