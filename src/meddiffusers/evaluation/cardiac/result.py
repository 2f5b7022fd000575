"""Label maps of cardiac sequences before or after correction, with their measurements and the reference."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from meddiffusers.datasets.cardiac_sequences import CardiacSequence
from meddiffusers.pipelines.meddiffusers_cardiac_attributes_v1 import CARDIAC_ATTRIBUTES
from meddiffusers.pipelines.meddiffusers_cardiac_report_v1 import SequenceReport
from meddiffusers.pipelines.meddiffusers_cardiac_validity_v1 import CRITERIA
from meddiffusers.pipelines.temporal_consistency_pipeline import (
    TemporalConsistencyPipeline,
    TemporalConsistencyPipelineOutput,
)


@dataclass(frozen=True, eq=False)
class CorrectedSequence:
    """What is evaluated of one view of one patient.

    Args:
        labels: Label maps `(T, H, W)` that are evaluated.
        reference: Ground-truth label maps `(T, H, W)`.
        spacing: Distances in mm between rows and between columns.
        subject: Name of the patient.
        report: Measurements of `labels`.
        reference_report: Measurements of `reference`.
        regenerated: Mask `(T,)`, bool, of frames that the VAE generated.
    """

    labels: np.ndarray
    reference: np.ndarray
    spacing: tuple[float, float]
    subject: str
    report: SequenceReport
    reference_report: SequenceReport
    regenerated: np.ndarray


def run_temporal(
    pipeline: TemporalConsistencyPipeline,
    sequences: Sequence[CardiacSequence],
    segmented: Sequence[np.ndarray],
    **kwargs: Any,
) -> list[CorrectedSequence]:
    """Run the pipeline on segmentations.

    Args:
        pipeline: The pipeline.
        sequences: Ground truth.
        segmented: Segmentation `(T, H, W)` of each sequence.
        kwargs: Further arguments of the pipeline's call.
    """
    results = []
    for sequence, frames in zip(sequences, segmented, strict=True):
        with warnings.catch_warnings():  # the metrics say it
            warnings.simplefilter("ignore", UserWarning)
            output = cast(
                TemporalConsistencyPipelineOutput, pipeline(frames, sequence.spacing, cyclic=sequence.cyclic, **kwargs)
            )
        results.append(_measure(pipeline, sequence, output.labels, output.regenerated))
    return results


def measure_segmentations(
    pipeline: TemporalConsistencyPipeline, sequences: Sequence[CardiacSequence], segmented: Sequence[np.ndarray]
) -> list[CorrectedSequence]:
    """Measure segmentations without correcting them; arguments as in `run_temporal`."""
    pairs = zip(sequences, segmented, strict=True)
    return [_measure(pipeline, sequence, frames, np.zeros(len(frames), bool)) for sequence, frames in pairs]


def summarize_correction(result: TemporalConsistencyPipelineOutput) -> dict[str, Any]:
    """Summarize an output of the pipeline as JSON.

    Returns:
        Warnings; frames that were regenerated, smoothed and cleaned; for input and output the attributes by frame, the
        inconsistent ones with their consistency ratio, the violated criteria, and the ejection fraction with its
        interval; and the attributes in which the pipeline abstained.
    """
    return {
        "warnings": result.warnings,
        "regenerated": np.flatnonzero(result.regenerated).tolist(),
        "smoothed": np.flatnonzero(result.smoothed).tolist(),
        "cleaned": np.flatnonzero(result.cleaned).tolist(),
        "abstained": [
            {"frame": int(t), "attribute": list(CARDIAC_ATTRIBUTES)[a]} for t, a in np.argwhere(result.after.abstained)
        ],
        "before": _summarize_report(result.before),
        "after": _summarize_report(result.after),
    }


def _summarize_report(report: SequenceReport) -> dict[str, Any]:
    names = list(CARDIAC_ATTRIBUTES)
    inconsistent = [
        {"frame": int(t), "attribute": names[a], "consistency_ratio": round(float(report.consistency_ratio[t, a]), 3)}
        for t, a in np.argwhere(report.consistency_ratio > 1)
    ]
    invalid = [{"frame": int(t), "criterion": CRITERIA[i]} for t, i in np.argwhere(report.violations)]
    attributes = {
        f"{name} [{CARDIAC_ATTRIBUTES[name]}]": [
            None if np.isnan(value) else round(float(value), 3) for value in values
        ]
        for name, values in zip(names, report.attributes.T, strict=True)
    }
    fraction, *interval = (
        None if np.isnan(value) else round(value, 4)
        for value in (report.ejection_fraction, *report.ejection_fraction_interval)
    )
    return {
        "inconsistent": inconsistent,
        "invalid": invalid,
        "ejection_fraction": fraction,
        "ejection_fraction_interval": interval,
        "attributes": attributes,
    }


def _measure(
    pipeline: TemporalConsistencyPipeline, sequence: CardiacSequence, labels: np.ndarray, regenerated: np.ndarray
) -> CorrectedSequence:
    report, reference = (pipeline.report(each, sequence.spacing, sequence.cyclic) for each in (labels, sequence.labels))
    return CorrectedSequence(
        labels, sequence.labels, sequence.spacing, sequence.subject, report, reference, regenerated
    )
