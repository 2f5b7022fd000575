"""Everything that is measured of a detector of anomalies on held-out slices, with intervals over their subjects.

| figure | over |
|---|---|
| AUROC, average precision, best Dice | all pixels of the head in slices with an anomaly, pooled |
| the same of a kind of lesion, or of a size | those slices with such a lesion |
| AUROC and best Dice of a subject | its own pixels; mean over the subjects |
| Dice of the mask | slices with an anomaly, each by itself; mean |
| AUROC of slices | slices with an anomaly against those of healthy subjects, by their score |

"Best" is the Dice at the one threshold that is best for all slices together, which takes the truth to know.
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
from meddiffusers.evaluation.results import Metric, run_facts
from meddiffusers.evaluation.segmentation.scores import strata

PER_KIND = 2  # slices of each kind of lesion that are drawn
FIGURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "AUROC": auroc,
    "average precision": average_precision,
    "best Dice": lambda counts: best_dice(counts)[0],
}


def evaluate_anomaly(result: AnomalyResult, *, dataset: str, seed: int = 0) -> Report:
    """The metrics, how many slices are behind them, and a image. The seed draws the bootstrap's subjects."""
    kinds = {kind: int(np.count_nonzero(inside)) for kind, inside in _groups(result).items()}
    title = "Slices of each kind of lesion, as they are and as they would be, what changed, and what is marked"
    details = {"slices": len(result.maps), "subjects": len(set(result.subjects)), "slices with": kinds}
    figures = {title: slices_panel(result)}
    return Report(anomaly_metrics(result, dataset, seed), run_facts(seed), details, figures)


def anomaly_metrics(result: AnomalyResult, dataset: str, seed: int = 0) -> list[Metric]:
    """Every figure with its 95 % interval. A group of slices that there are none of is left out."""
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
    metrics += _each(counts[with_any], subjects[with_any], dataset, seed)
    dice = overlap(result.masks, result.reference, (1,), result.spacing).dice[with_any, 0]
    metrics.append(_mean("Dice of the mask", dice, subjects[with_any], dataset, seed, "slices with an anomaly"))
    healthy = np.array([kind == "none" for kind in result.lesions])
    if healthy.any():
        metrics.append(_of_slices(result.scores, with_any, healthy, subjects, dataset, seed))
    return metrics


def slices_panel(result: AnomalyResult) -> PIL.Image.Image:
    """Slices with the largest lesions of each kind, and healthy ones; below each what was made of it, and the truth."""
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
        titles={"image": [result.lesions[number].replace("_", " ") for number in chosen]},
        ranges=ranges,
    )


def _groups(result: AnomalyResult) -> dict[str, np.ndarray]:
    """Slices (N,) bool by what lies in them; the first group is all with an anomaly."""
    with_any = result.area > 0
    groups = {"": with_any}
    for kind in sorted(set(result.lesions) - {"none"}):
        groups[kind] = with_any & np.array([other == kind for other in result.lesions])
    return groups | strata(result.area)


def _pooled(counts: np.ndarray, subjects: np.ndarray, group: str, dataset: str, seed: int) -> list[Metric]:
    names, member = np.unique(subjects, return_inverse=True)
    own = np.zeros((len(names), *counts.shape[1:]))
    np.add.at(own, member, counts)
    metrics = []
    for title, figure in FIGURES.items():
        low, high = bootstrap_interval(partial(_figure_of, figure, own), names.tolist(), seed)
        name = f"{title}, {group.replace('_', ' ')}" if group else title
        value = float(figure(own.sum(axis=0)))
        note = "pixels of the head in slices with an anomaly" if not group else "pixels of the head in such slices"
        metrics.append(Metric(name, value, dataset, len(counts), low, high, OVER_SUBJECTS, note))
    return metrics


def _figure_of(figure: Callable[[np.ndarray], np.ndarray], own: np.ndarray, rows: np.ndarray) -> float:
    """Of the counts (S, 2, B) of some subjects together."""
    return float(figure(own[rows].sum(axis=0)))


def _each(counts: np.ndarray, subjects: np.ndarray, dataset: str, seed: int) -> list[Metric]:
    names, member = np.unique(subjects, return_inverse=True)
    own = np.zeros((len(names), *counts.shape[1:]))
    np.add.at(own, member, counts)
    return [
        _mean(f"{title} of a subject", FIGURES[title](own), names, dataset, seed, "subjects with an anomaly")
        for title in ("AUROC", "best Dice")
    ]


def _mean(name: str, values: np.ndarray, subjects: np.ndarray, dataset: str, seed: int, note: str) -> Metric:
    low, high = bootstrap_mean_interval(values, subjects.tolist(), seed)
    return Metric(name, float(np.nanmean(values)), dataset, len(values), low, high, OVER_SUBJECTS, note)


def _of_slices(
    scores: np.ndarray, diseased: np.ndarray, healthy: np.ndarray, subjects: np.ndarray, dataset: str, seed: int
) -> Metric:
    kept = diseased | healthy
    values, truth, names = scores[kept], diseased[kept], subjects[kept].tolist()
    edges = bin_edges(values)

    def figure(rows: np.ndarray) -> float:
        return float(auroc(detection_counts(values[rows], truth[rows], edges)))

    low, high = bootstrap_interval(figure, names, seed)
    note = f"{np.count_nonzero(truth)} slices with an anomaly, {np.count_nonzero(~truth)} of healthy subjects"
    return Metric("AUROC of slices", figure(np.arange(len(names))), dataset, len(names), low, high, OVER_SUBJECTS, note)
