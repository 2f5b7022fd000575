"""Metrics of corrected cardiac sequences, as in the tables of Painchaud et al., IEEE TMI 2022.

| metric | over |
|---|---|
| inconsistent sequences | fraction of sequences with a frame in which an attribute exceeds its limit |
| mean consistency ratio | mean of |e| / τ over frames and attributes of a sequence |
| invalid frames | fraction of frames that violate an anatomical criterion |
| Dice | mean of LV and myocardium, over frames |
| Hausdorff distance, mm | likewise |
| EF error, EF bias | absolute and signed error of a sequence's ejection fraction, in percentage points |
| regenerated frames | fraction of frames that the VAE generated |

All are means over sequences, with bootstrap intervals over patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance

from meddiffusers.evaluation.cardiac.figures import attribute_curves, frames_panel
from meddiffusers.evaluation.cardiac.result import CorrectedSequence
from meddiffusers.evaluation.metrics.bootstrap import OVER_SUBJECTS, bootstrap_mean_interval
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric, metric_key, run_facts
from meddiffusers.pipelines.meddiffusers_cardiac_labels_v1 import LV, MYO

NAMES = {
    "inconsistent_sequences": "inconsistent sequences",
    "consistency_ratio": "mean consistency ratio",
    "invalid_frames": "invalid frames",
    "dice": "Dice",
    "hausdorff_distance": "Hausdorff distance [mm]",
    "ef_error": "EF error [points]",
    "ef_bias": "EF bias [points]",
    "regenerated_frames": "regenerated frames",
}
HUB_TYPES = {"hausdorff_distance": "hausdorff", "ef_error": "mae"}  # the others have none of their own


def evaluate_temporal(
    results: Mapping[str, Sequence[CorrectedSequence]], *, dataset: str, seed: int = 0, shown: int = 0
) -> Report:
    """Report the metrics of several methods on the same sequences.

    Args:
        results: Corrected sequences of each method; the first method is the uncorrected input, the last one is shown.
        dataset: Name of the data in the metrics.
        seed: Seed of the bootstrap.
        shown: Index of the sequence in the figures.
    """
    metrics = [
        metric for method, sequences in results.items() for metric in temporal_metrics(sequences, method, dataset, seed)
    ]
    first, last = (list(results)[i] for i in (0, -1))
    before, after = results[first][shown], results[last][shown]
    rows = {"ground truth": before.reference, "as segmented": before.labels, "repaired": after.labels}
    reports = {"ground truth": before.reference_report, "as segmented": before.report, "repaired": after.report}
    figures = {
        "Frames of one cardiac cycle": frames_panel(rows, after.regenerated),
        "Attributes over that cycle": attribute_curves({name: each.attributes for name, each in reports.items()}),
    }
    details = {"sequences": len(results[first]), "frames": sum(len(each.labels) for each in results[first])}
    return Report(metrics, run_facts(seed), details, figures)


def temporal_metrics(sequences: Sequence[CorrectedSequence], method: str, dataset: str, seed: int = 0) -> list[Metric]:
    """Compute the metrics of one method, each with its 95 % interval.

    Args:
        sequences: Corrected sequences.
        method: Name of the method, which ends the keys and the names of the metrics.
        dataset: Name of the data.
        seed: Seed of the bootstrap.
    """
    subjects = [each.subject for each in sequences]
    return [
        Metric(
            metric_key(key, method),
            f"{NAMES[key]}, {method}",
            HUB_TYPES.get(key, key),
            float(np.nanmean(each)),
            dataset,
            len(each),
            *bootstrap_mean_interval(each, subjects, seed),
            OVER_SUBJECTS,
            "mean over sequences",
        )
        for key, each in sequence_values(sequences).items()
    ]


def sequence_values(sequences: Sequence[CorrectedSequence]) -> dict[str, np.ndarray]:
    """Compute the values of each sequence: arrays by the keys of `NAMES`."""
    ef_error = 100 * np.array(
        [each.report.ejection_fraction - each.reference_report.ejection_fraction for each in sequences]
    )
    return {
        "inconsistent_sequences": np.array([float(each.report.inconsistent.any()) for each in sequences]),
        "consistency_ratio": np.array([np.nanmean(each.report.consistency_ratio) for each in sequences]),
        "invalid_frames": np.array([each.report.invalid.mean() for each in sequences]),
        "dice": np.array([dice(each.labels, each.reference).mean() for each in sequences]),
        "hausdorff_distance": np.array([_hausdorff_distance(each) for each in sequences]),
        "ef_error": np.abs(ef_error),
        "ef_bias": ef_error,
        "regenerated_frames": np.array([each.regenerated.mean() for each in sequences]),
    }


def dice(labels: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Compute the Dice coefficients `(T, 2)` of LV and myocardium between label maps `(T, H, W)`."""
    mask, truth = _masks(labels), _masks(reference)
    both = (mask & truth).sum(axis=(2, 3))
    return 2 * both / np.maximum(mask.sum(axis=(2, 3)) + truth.sum(axis=(2, 3)), 1)


def _masks(labels: np.ndarray) -> np.ndarray:
    return np.stack([labels == label for label in (LV, MYO)], axis=1)


def _hausdorff_distance(sequence: CorrectedSequence) -> float:
    """Mean Hausdorff distance in mm over frames and labels; the image's diagonal where one of the masks is empty."""
    mask, truth = _masks(sequence.labels), _masks(sequence.reference)
    differing = np.flatnonzero((mask != truth).any(axis=(1, 2, 3)))
    if not len(differing):
        return 0.0
    rows, columns = (np.flatnonzero((mask | truth).any(axis=axes)) for axes in ((0, 1, 3), (0, 1, 2)))
    box = slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2)
    one, other = (torch.from_numpy(part[differing][:, :, *box]) for part in (mask, truth))
    computed = compute_hausdorff_distance(one, other, include_background=True, spacing=list(sequence.spacing)).numpy()
    diagonal = np.linalg.norm(np.multiply(sequence.labels.shape[1:], sequence.spacing))
    distance = np.zeros(mask.shape[:2])
    distance[differing] = np.where(np.isfinite(computed), computed, diagonal)
    return float(distance.mean())
