"""Ejection fractions of corrected sequences against those that CAMUS states for each patient.

Both views together give the volumes by the biplane method of discs, at end diastole and end systole of the ground
truth. Patients with one view, or without a stated ejection fraction, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from meddiffusers.data.phantoms.cardiac.heart import VIEWS
from meddiffusers.datasets.cardiac_sequences import CardiacSequence
from meddiffusers.datasets.cardiac_volumes import biplane_volumes, ed_es_frames
from meddiffusers.evaluation.cardiac.result import CorrectedSequence
from meddiffusers.evaluation.metrics.bootstrap import OVER_SUBJECTS, bootstrap_mean_interval
from meddiffusers.evaluation.results import Metric, metric_key
from meddiffusers.pipelines.meddiffusers_cardiac_attributes_v1 import area_length_volumes

NOTE = "mean over patients; biplane, at the end diastole and end systole of the ground truth"


def stated_ef_metrics(
    results: Mapping[str, Sequence[CorrectedSequence]],
    sequences: Sequence[CardiacSequence],
    dataset: str,
    seed: int = 0,
) -> list[Metric]:
    """Compute the mean absolute error of each method against the stated ejection fractions, in percentage points.

    Args:
        results: Corrected sequences of each method.
        sequences: Their ground truth.
        dataset: Name of the data in the metrics.
        seed: Seed of the bootstrap.

    Returns:
        One metric for each method; none if no patient can be compared.
    """
    views: dict[str, list[int]] = {}
    for i, sequence in enumerate(sequences):
        if sequence.ejection_fraction is not None:
            views.setdefault(sequence.subject, []).append(i)
    patients = {subject: pair for subject, pair in views.items() if len(pair) == len(VIEWS)}
    stated = np.array([sequences[pair[0]].ejection_fraction for pair in patients.values()], float)
    metrics = []
    for method, corrected in results.items():
        measured = np.array([_biplane_ef([corrected[i] for i in pair]) for pair in patients.values()])
        errors = 100 * np.abs(measured - stated)
        if np.isfinite(errors).any():
            low, high = bootstrap_mean_interval(errors, list(patients), seed)
            metrics.append(
                Metric(
                    metric_key("stated_ef_error", method),
                    f"EF error against the stated EF [points], {method}",
                    "mae",
                    float(np.nanmean(errors)),
                    dataset,
                    int(np.isfinite(errors).sum()),
                    low,
                    high,
                    OVER_SUBJECTS,
                    NOTE,
                )
            )
    return metrics


def _biplane_ef(views: Sequence[CorrectedSequence]) -> float:
    """Ejection fraction of both views of a patient; NaN where one cannot be measured."""
    frames = []
    for view in views:
        volumes = area_length_volumes(view.reference_report.attributes)
        if not np.isfinite(volumes).any():
            return float("nan")
        frames.append(view.labels[list(ed_es_frames(volumes))])
    end_diastole, end_systole = biplane_volumes(frames[0], views[0].spacing, frames[1], views[1].spacing)
    return float(1 - end_systole / end_diastole)
