"""Everything that is measured of repaired heart sequences, as the table of Painchaud et al., IEEE TMI 2022, has it.

| figure | over |
|---|---|
| inconsistent sequences | sequences with any frame in which an attribute bends more than its limit |
| mean error / τ | frames and attributes |
| anatomical errors | frames that no heart looks like |
| Dice | cavity and wall of a frame, mean; then over frames |
| Hausdorff distance, mm | likewise; the largest distance of the two borders |
| EF error, bias | points of ejection fraction of a sequence, against that of the true label maps; MAE and mean |
| frames drawn anew | |

Intervals are over patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance

from meddiffusers.evaluation.cardiac.figures import curves, frames_panel
from meddiffusers.evaluation.cardiac.result import RepairedSequence
from meddiffusers.evaluation.metrics.bootstrap import OVER_SUBJECTS, bootstrap_mean_interval
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric, run_facts

LABELS = (1, 2)


def evaluate_temporal(
    results: Mapping[str, Sequence[RepairedSequence]], *, dataset: str, seed: int = 0, shown: int = 0
) -> Report:
    """Each method's metrics, and images of the sequence number `shown`; the first is what came in, the last ours."""
    metrics = [
        metric for name, sequences in results.items() for metric in temporal_metrics(sequences, name, dataset, seed)
    ]
    first, last = (list(results)[place] for place in (0, -1))
    before, after = results[first][shown], results[last][shown]
    rows = {"truth": before.reference, "as segmented": before.labels, "repaired": after.labels}
    reports = {"truth": before.truth, "as segmented": before.report, "repaired": after.report}
    figures = {
        "Frames of one beat": frames_panel(rows, after.redrawn),
        "Attributes of that beat": curves({name: report.attributes for name, report in reports.items()}),
    }
    details = {"sequences": len(results[first]), "frames": sum(len(each.labels) for each in results[first])}
    return Report(metrics, run_facts(seed), details, figures)


def temporal_metrics(sequences: Sequence[RepairedSequence], name: str, dataset: str, seed: int = 0) -> list[Metric]:
    """The metrics of one method, each with its 95 % interval."""
    subjects = [each.subject for each in sequences]
    error = np.array([100 * (each.report.ejection_fraction - each.truth.ejection_fraction) for each in sequences])
    values = {
        "inconsistent sequences": np.array([float(each.report.inconsistent.any()) for each in sequences]),
        "mean error / τ": np.array([np.nanmean(each.report.excess) for each in sequences]),
        "anatomical errors, frames": np.array([each.report.invalid.mean() for each in sequences]),
        "Dice": np.array([dice(each.labels, each.reference).mean() for each in sequences]),
        "Hausdorff distance [mm]": np.array([_distance(each) for each in sequences]),
        "EF error [points]": np.abs(error),
        "EF bias [points]": error,
        "frames drawn anew": np.array([each.redrawn.mean() for each in sequences]),
    }
    return [
        Metric(
            f"{title}, {name}",
            float(np.nanmean(of)),
            dataset,
            len(of),
            *bootstrap_mean_interval(of, subjects, seed),
            OVER_SUBJECTS,
            "mean over sequences",
        )
        for title, of in values.items()
    ]


def dice(labels: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(T, 2) of cavity and wall in label maps (T, H, W)."""
    mask, truth = _masks(labels), _masks(reference)
    both = (mask & truth).sum(axis=(2, 3))
    return 2 * both / np.maximum(mask.sum(axis=(2, 3)) + truth.sum(axis=(2, 3)), 1)


def _masks(labels: np.ndarray) -> np.ndarray:
    return np.stack([labels == label for label in LABELS], axis=1)


def _distance(each: RepairedSequence) -> float:
    """Mean Hausdorff distance of a sequence's frames and labels, mm; the diagonal where one of the two is empty."""
    mask, truth = _masks(each.labels), _masks(each.reference)
    differing = np.flatnonzero((mask != truth).any(axis=(1, 2, 3)))
    if not len(differing):
        return 0.0
    rows, columns = (np.flatnonzero((mask | truth).any(axis=axes)) for axes in ((0, 1, 3), (0, 1, 2)))
    inner = slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2)
    one, other = (torch.from_numpy(part[differing][:, :, *inner]) for part in (mask, truth))
    found = compute_hausdorff_distance(one, other, include_background=True, spacing=list(each.spacing)).numpy()
    diagonal = np.linalg.norm(np.multiply(each.labels.shape[1:], each.spacing))
    distance = np.zeros((len(mask), len(LABELS)))
    distance[differing] = np.where(np.isfinite(found), found, diagonal)
    return float(distance.mean())
