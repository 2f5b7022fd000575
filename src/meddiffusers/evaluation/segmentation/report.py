"""Everything that is measured of a segmentation model on held-out slices, with intervals over their subjects."""

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
from meddiffusers.evaluation.results import Metric, run_facts
from meddiffusers.evaluation.segmentation.curves import summary_figure
from meddiffusers.evaluation.segmentation.figures import slices_figure
from meddiffusers.evaluation.segmentation.result import SegmentationResult
from meddiffusers.evaluation.segmentation.scores import SegmentationScores, score, strata


def evaluate_segmentation(result: SegmentationResult, *, dataset: str, seed: int = 0) -> Report:
    """The metrics, what curves and counts are behind them, and two images. The seed draws the bootstrap's subjects.

    Raises:
        ValueError: no reference has foreground.
    """
    scores = score(result)
    figures = {
        "Slices from best to worst, all rows but the first enlarged to the square in it; thin white lines: the "
        "reference's foreground": slices_figure(result, scores),
        "Reliability of the foreground's probability, Dice when the most uncertain pixels go to an oracle, and Dice "
        "by size of lesion": summary_figure(result, scores),
    }
    return Report(_metrics(result, scores, dataset, seed), run_facts(seed), _details(result, scores), figures)


def segmentation_metrics(result: SegmentationResult, dataset: str, seed: int) -> list[Metric]:
    """Every figure with its 95 % interval over subjects and with N, the number of slices or subjects it is a mean over.

    Overlap of the whole foreground, of it by size of lesion, and of each class if there are several: mean over the
    slices whose reference has what is measured. A figure that nothing gives is left out, such as false positives where
    every slice has foreground, or a stratum that is empty.

    Raises:
        ValueError: no reference has foreground.
    """
    return _metrics(result, score(result), dataset, seed)


def _metrics(result: SegmentationResult, scores: SegmentationScores, dataset: str, seed: int) -> list[Metric]:
    def mean(name: str, values: np.ndarray, note: str, subjects: Sequence[str] = result.subjects) -> Metric:
        low, high = bootstrap_mean_interval(values, subjects, seed)
        known = values[~np.isnan(values)]
        value = float(known.mean()) if len(known) else np.nan
        return Metric(name, value, dataset, len(known), low, high, OVER_SUBJECTS, note)

    def agreement(title: str, of: Overlap, note: str) -> list[Metric]:
        return [
            mean(f"Dice, {title}", of.dice, note),
            mean(f"Jaccard, {title}", of.jaccard, note),
            mean(f"HD95, {title} [mm]", of.hd95, f"{note}; {diagonal:.0f} mm where the mask has none"),
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
        mean("false positives", scores.false_positive, "part of the slices without foreground in which any is found"),
        _calibration(result, scores, dataset, seed),
        mean("error–uncertainty AUROC", scores.auroc, "subjects, over the pixels of the head", scores.subjects),
        mean(
            f"area under Dice–rejection curve to {FRACTIONS[-1]:.0%}",
            area_under_rejection(scores.rejection),
            "subjects, over all pixels of each; what is rejected gets its true label",
            scores.subjects,
        ),
    ]
    energy, all_slices = scores.energy, "slices, those that no rater marks too"
    every = f"{all_slices}; all pairs of {result.samples.shape[1]} samples, as Kohl et al."
    metrics += [
        mean("generalised energy distance, samples", energy.samples, f"{all_slices}; unbiased"),
        mean("generalised energy distance, mask alone", energy.mask, f"{all_slices}; unbiased"),
        mean("generalised energy distance, samples, all pairs", energy.kohl, every),
    ]
    return [metric for metric in metrics if np.isfinite(metric.value)]


def _calibration(result: SegmentationResult, scores: SegmentationScores, dataset: str, seed: int) -> Metric:
    def error(rows: np.ndarray) -> float:
        return float(expected_calibration_error(scores.bins[rows].sum(axis=0)))

    everyone = np.arange(len(scores.subjects))
    low, high = bootstrap_interval(error, scores.subjects, seed)
    note = f"pixels of the head, {BINS} bins of the foreground's probability"
    return Metric(
        "expected calibration error", error(everyone), dataset, len(result.mask), low, high, OVER_SUBJECTS, note
    )


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
