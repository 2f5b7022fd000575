"""Segmented beats before and after a repair, beside the truth: all that its evaluation needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from meddiffusers.datasets.cardiac_sequences import HeartSequence
from meddiffusers.pipelines.meddiffusers_heart_shapes_v1 import CARDIAC_ATTRIBUTES
from meddiffusers.pipelines.meddiffusers_heart_validity_v1 import ISSUES
from meddiffusers.pipelines.temporal_consistency_pipeline import HeartReport, TemporalConsistencyPipeline


@dataclass(frozen=True, eq=False)
class RepairedSequence:
    """One view of one patient. labels, reference (T, H, W): what is evaluated, and the truth.

    report, truth: what is measured of either; spacing: mm downwards and across; redrawn (T,) bool: drawn by the VAE.
    """

    labels: np.ndarray
    reference: np.ndarray
    spacing: tuple[float, float]
    subject: str
    report: HeartReport
    truth: HeartReport
    redrawn: np.ndarray


def run_temporal(
    pipeline: TemporalConsistencyPipeline,
    sequences: Sequence[HeartSequence],
    segmented: Sequence[np.ndarray],
    **settings: Any,
) -> list[RepairedSequence]:
    """The pipeline on segmentations (T, H, W), one for each sequence, whose labels are the truth."""
    results = []
    for sequence, frames in zip(sequences, segmented, strict=True):
        output: Any = pipeline(frames, sequence.spacing, cyclic=sequence.cyclic, **settings)
        results.append(_measured(pipeline, sequence, output.labels, output.redrawn))
    return results


def as_segmented(
    pipeline: TemporalConsistencyPipeline, sequences: Sequence[HeartSequence], segmented: Sequence[np.ndarray]
) -> list[RepairedSequence]:
    """The segmentations as they are, measured the same way."""
    pairs = zip(sequences, segmented, strict=True)
    return [_measured(pipeline, sequence, frames, np.zeros(len(frames), bool)) for sequence, frames in pairs]


def repair_facts(result: Any) -> dict[str, Any]:
    """Of the pipeline's output, as JSON: which frames were changed, and which attributes of which frames bent by how
    much of what they may, which issues there were, and the ejection fraction, before and after."""
    return {
        "drawn anew": np.flatnonzero(result.redrawn).tolist(),
        "tidied": np.flatnonzero(result.tidied).tolist(),
        "before": _report_facts(result.before),
        "after": _report_facts(result.after),
    }


def _report_facts(report: HeartReport) -> dict[str, Any]:
    names = list(CARDIAC_ATTRIBUTES)
    bent = [
        {"frame": int(t), "attribute": names[a], "of the limit": round(float(report.excess[t, a]), 3)}
        for t, a in np.argwhere(report.excess > 1)
    ]
    wrong = [{"frame": int(t), "issue": ISSUES[f]} for t, f in np.argwhere(report.issues)]
    measured = {
        f"{name} [{CARDIAC_ATTRIBUTES[name]}]": [
            None if np.isnan(value) else round(float(value), 3) for value in values
        ]
        for name, values in zip(names, report.attributes.T, strict=True)
    }
    fraction = None if np.isnan(report.ejection_fraction) else round(report.ejection_fraction, 4)
    return {"inconsistent": bent, "invalid": wrong, "ejection fraction": fraction, "attributes": measured}


def _measured(
    pipeline: TemporalConsistencyPipeline, sequence: HeartSequence, labels: np.ndarray, redrawn: np.ndarray
) -> RepairedSequence:
    report, truth = (pipeline.report(each, sequence.spacing, sequence.cyclic) for each in (labels, sequence.labels))
    return RepairedSequence(labels, sequence.labels, sequence.spacing, sequence.subject, report, truth, redrawn)
