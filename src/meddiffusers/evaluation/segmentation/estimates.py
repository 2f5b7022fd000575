"""Compare where the probability of a segmentation comes from: the prior logits, or the mean over the members.

For exact networks both are the same expectation; for trained ones they differ, and the members' mean also has the
sampling error of a few members. See `ConditionalSegmentationPipeline`, whose `probability_from` chooses one.
"""

from __future__ import annotations

import numpy as np

from meddiffusers.evaluation.metrics.bootstrap import OVER_SUBJECTS, bootstrap_interval, bootstrap_mean_interval
from meddiffusers.evaluation.metrics.overlap import overlap
from meddiffusers.evaluation.metrics.uncertainty import BINS, expected_calibration_error, reliability_bins
from meddiffusers.evaluation.results import Metric
from meddiffusers.evaluation.segmentation.result import SegmentationResult

SOURCES = {"prior": "prior logits", "samples": "mean of the members"}
THRESHOLD = 0.5  # of the foreground probability, the default of the pipeline


def estimate_metrics(result: SegmentationResult, dataset: str, seed: int) -> list[Metric]:
    """Dice and calibration of the whole foreground for each source of the probability; none if there is only one.

    Args:
        result: Predictions with the `foregrounds` to compare.
        dataset: Name of the data.
        seed: Seed of the bootstrap over subjects.
    """
    if len(result.foregrounds) < 2:
        return []
    return [
        metric
        for source, foreground in result.foregrounds.items()
        for metric in (
            _dice(result, source, foreground, dataset, seed),
            _ece(result, source, foreground, dataset, seed),
        )
    ]


def _dice(result: SegmentationResult, source: str, foreground: np.ndarray, dataset: str, seed: int) -> Metric:
    reference = result.reference > 0
    dice = overlap(foreground > THRESHOLD, reference, (1,), result.spacing).dice[:, 0]
    dice = np.where(reference.any(axis=(1, 2)), dice, np.nan)
    low, high = bootstrap_mean_interval(dice, result.subjects, seed)
    name, note = f"Dice, whole, p from the {SOURCES[source]}", "slices whose reference has foreground"
    n = int(np.count_nonzero(~np.isnan(dice)))
    return Metric(
        f"dice_whole_{source}", name, "dice", float(np.nanmean(dice)), dataset, n, low, high, OVER_SUBJECTS, note
    )


def _ece(result: SegmentationResult, source: str, foreground: np.ndarray, dataset: str, seed: int) -> Metric:
    reference = result.reference > 0
    head = (result.images > 0) | (result.mask > 0) | reference
    names, member = np.unique(result.subjects, return_inverse=True)
    bins = np.stack(
        [
            reliability_bins(foreground[own][head[own]], reference[own][head[own]])
            for own in (member == number for number in range(len(names)))
        ]
    )

    def error(rows: np.ndarray) -> float:
        return float(expected_calibration_error(bins[rows].sum(axis=0)))

    low, high = bootstrap_interval(error, names.tolist(), seed)
    note, name = f"pixels of the head, {BINS} bins of the foreground probability", f"ECE, p from the {SOURCES[source]}"
    everyone = error(np.arange(len(names)))
    return Metric(f"ece_{source}", name, "ece", everyone, dataset, len(result.mask), low, high, OVER_SUBJECTS, note)
