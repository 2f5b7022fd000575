"""Evaluation of an anomaly detector on held-out slices, with intervals over subjects.

| metric | computed over |
|---|---|
| `auroc_pixels`, `average_precision_pixels`, `best_dice_pixels` | pooled pixels of the head in slices with an anomaly |
| the same with `_KIND` or `_SIZE` | pooled pixels of the slices with such a lesion |
| `auroc_subject`, `best_dice_subject` | the pixels of one subject; mean over subjects |
| `dice_mask` | the mask of one slice with an anomaly; mean over these slices |
| `auroc_slices` | scores of slices with an anomaly against those of healthy subjects |

"Best Dice" is the Dice at the single threshold that is best for all pooled pixels. Finding it needs the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import PIL.Image

from meddiffusers.evaluation.anomaly.result import AnomalyResult
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.metrics.bootstrap import OVER_SUBJECTS, bootstrap_interval, bootstrap_mean_interval
from meddiffusers.evaluation.metrics.detection import auroc, average_precision, best_dice, bin_edges, detection_counts
from meddiffusers.evaluation.metrics.overlap import overlap
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric, metric_key, run_facts
from meddiffusers.evaluation.segmentation.scores import strata

PER_KIND = 2  # slices of each kind of lesion in the figure
PIXEL_METRICS: dict[str, tuple[str, str, Callable[[np.ndarray], np.ndarray]]] = {  # name, Hub type, function of counts
    "auroc": ("AUROC", "roc_auc", auroc),
    "average_precision": ("Average precision", "average_precision", average_precision),
    "best_dice": ("Best Dice", "dice", lambda counts: best_dice(counts)[0]),
}


def evaluate_anomaly(result: AnomalyResult, *, dataset: str, seed: int = 0) -> Report:
    """Evaluate predictions on held-out slices.

    Args:
        result: Predictions and reference.
        dataset: Name of the data, for the report.
        seed: Seed of the bootstrap over subjects.

    Returns:
        Metrics with 95 % intervals, numbers of slices, and a figure of example slices.
    """
    kinds = {kind: int(np.count_nonzero(inside)) for kind, inside in _groups(result).items()}
    title = "Slices with each kind of lesion: image, healthy counterfactual, anomaly map, mask and reference"
    details = {"slices": len(result.maps), "subjects": len(set(result.subjects)), "slices with": kinds}
    figures = {title: slices_panel(result)}
    return Report(anomaly_metrics(result, dataset, seed), run_facts(seed), details, figures)


def anomaly_metrics(result: AnomalyResult, dataset: str, seed: int = 0) -> list[Metric]:
    """All metrics with their 95 % intervals; groups without any slice are left out."""
    edges = bin_edges(result.maps[result.head])
    counts = np.stack(
        [
            detection_counts(values[head], truth[head], edges)
            for values, truth, head in zip(result.maps, result.reference, result.head, strict=True)
        ]
    )
    subjects = np.asarray(result.subjects)
    metrics = []
    for group, inside in _groups(result).items():
        if inside.any():
            metrics += _pooled(counts[inside], subjects[inside], group, dataset, seed)
    with_any = result.area > 0
    metrics += _per_subject(counts[with_any], subjects[with_any], dataset, seed)
    dice = overlap(result.masks, result.reference, (1,), result.spacing).dice[with_any, 0]
    metrics.append(
        _mean(
            "dice_mask", "Dice of the mask", "dice", dice, subjects[with_any], dataset, seed, "slices with an anomaly"
        )
    )
    healthy = np.array([kind == "none" for kind in result.lesions])
    if healthy.any():
        metrics.append(_slice_auroc(result.scores, with_any, healthy, subjects, dataset, seed))
    return metrics


def slices_panel(result: AnomalyResult) -> PIL.Image.Image:
    """Panel with predictions and reference for the slices with the largest lesions of each kind, and healthy ones."""
    chosen = []
    for kind in dict.fromkeys(sorted(result.lesions, key=lambda kind: kind == "none")):
        inside = np.flatnonzero([other == kind for other in result.lesions])
        chosen += inside[np.argsort(-result.area[inside], kind="stable")][:PER_KIND].tolist()
    rows = {
        "image": result.images[chosen],
        "counterfactual": result.counterfactuals[chosen],
        "anomaly map": result.maps[chosen],
        "mask": result.masks[chosen].astype(float),
        "reference": result.reference[chosen].astype(float),
    }
    highest = float(np.percentile(result.maps[result.head], 99.5))
    ranges = dict.fromkeys(rows, (0.0, 1.0)) | {"anomaly map": (0.0, highest)}
    return panel(
        rows,
        tile=1.2,
        titles={"image": [result.lesions[index].replace("_", " ") for index in chosen]},
        ranges=ranges,
    )


def _groups(result: AnomalyResult) -> dict[str, np.ndarray]:
    """Masks (B,) of the slices with any anomaly (""), with each kind of lesion, and with each size."""
    with_any = result.area > 0
    groups = {"": with_any}
    for kind in sorted(set(result.lesions) - {"none"}):
        groups[kind] = with_any & np.array([other == kind for other in result.lesions])
    return groups | strata(result.area)


def _pooled(counts: np.ndarray, subjects: np.ndarray, group: str, dataset: str, seed: int) -> list[Metric]:
    """Metrics of pixels pooled over slices with counts (B, 2, BINS)."""
    names, per_subject = _counts_per_subject(counts, subjects)
    note = "pixels of the head in slices with an anomaly" if not group else "pixels of the head in such slices"
    metrics = []
    for key, (title, type_, function) in PIXEL_METRICS.items():
        low, high = bootstrap_interval(partial(_pooled_value, function, per_subject), names, seed)
        name = ", ".join(filter(None, (f"{title}, pixels", group.replace("_", " "))))
        value = float(function(per_subject.sum(axis=0)))
        full_key = metric_key(key, "pixels", group)
        metrics.append(Metric(full_key, name, type_, value, dataset, len(counts), low, high, OVER_SUBJECTS, note))
    return metrics


def _pooled_value(function: Callable[[np.ndarray], np.ndarray], per_subject: np.ndarray, rows: np.ndarray) -> float:
    return float(function(per_subject[rows].sum(axis=0)))


def _counts_per_subject(counts: np.ndarray, subjects: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Names of S subjects and the sum of the counts of each, (S, 2, BINS)."""
    names, member = np.unique(subjects, return_inverse=True)
    per_subject = np.zeros((len(names), *counts.shape[1:]))
    np.add.at(per_subject, member, counts)
    return names.tolist(), per_subject


def _per_subject(counts: np.ndarray, subjects: np.ndarray, dataset: str, seed: int) -> list[Metric]:
    names, per_subject = _counts_per_subject(counts, subjects)
    metrics = []
    for key in ("auroc", "best_dice"):
        title, type_, function = PIXEL_METRICS[key]
        values, note = function(per_subject), "subjects with an anomaly"
        title = f"{title} per subject"
        metrics.append(_mean(f"{key}_subject", title, type_, values, np.array(names), dataset, seed, note))
    return metrics


def _mean(
    key: str, name: str, type_: str, values: np.ndarray, subjects: np.ndarray, dataset: str, seed: int, note: str
) -> Metric:
    low, high = bootstrap_mean_interval(values, subjects.tolist(), seed)
    return Metric(key, name, type_, float(np.nanmean(values)), dataset, len(values), low, high, OVER_SUBJECTS, note)


def _slice_auroc(
    scores: np.ndarray, diseased: np.ndarray, healthy: np.ndarray, subjects: np.ndarray, dataset: str, seed: int
) -> Metric:
    kept = diseased | healthy
    values, truth, names = scores[kept], diseased[kept], subjects[kept].tolist()
    edges = bin_edges(values)

    def statistic(rows: np.ndarray) -> float:
        return float(auroc(detection_counts(values[rows], truth[rows], edges)))

    low, high = bootstrap_interval(statistic, names, seed)
    note = f"{np.count_nonzero(truth)} slices with an anomaly, {np.count_nonzero(~truth)} of healthy subjects"
    value, n = statistic(np.arange(len(names))), len(names)
    return Metric("auroc_slices", "AUROC, slices", "roc_auc", value, dataset, n, low, high, OVER_SUBJECTS, note)
