"""Measurements of a sequence of label maps: attributes, temporal consistency, anatomical validity, ejection fraction.

Published pipelines import this file from beside them. It is published with each of these pipelines.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .meddiffusers_cardiac_attributes_v1 import area_length_volumes, ejection_fraction, measure_cardiac_attributes
from .meddiffusers_cardiac_ejection_v1 import ejection_fraction_interval
from .meddiffusers_cardiac_masks_v1 import without_atrium
from .meddiffusers_cardiac_validity_v1 import anatomical_violations

PUBLISHED_AS = "meddiffusers_cardiac_report_v1"  # the file has the same name in a repository
UNMEASURED = 10.0  # the ratio that a violated criterion, or an attribute that cannot be measured, counts as


@dataclass(frozen=True)
class SequenceReport:
    """Measurements of a sequence of T frames.

    Args:
        attributes: Attributes `(T, 7)` in the order and units of `CARDIAC_ATTRIBUTES` (mm², mm, degrees); NaN for
            frames with too few pixels to measure.
        consistency_ratio: |e| / τ, `(T, 7)`; above 1 where an attribute is inconsistent in time.
        violations: Violated anatomical criteria `(T, 8)`, bool, in the order of `CRITERIA` of
            `meddiffusers_cardiac_validity_v1`.
        ejection_fraction: Ejection fraction from this view by the area–length method, in [0, 1].
        ejection_fraction_interval: Lowest and highest ejection fraction that the jitter of the borders explains.
        abstained: Attributes `(T, 7)`, bool, that are inconsistent and were left as they are, since no correction was
            consistent; all False before a correction.
    """

    attributes: np.ndarray
    consistency_ratio: np.ndarray
    violations: np.ndarray
    ejection_fraction: float
    ejection_fraction_interval: tuple[float, float]
    abstained: np.ndarray

    @property
    def violation(self) -> float:
        """By how much the limits are exceeded, summed over frames and attributes, and the violated criteria."""
        excess = np.nan_to_num(self.consistency_ratio, nan=UNMEASURED) - 1
        return float(np.clip(excess, 0, None).sum() + UNMEASURED * self.violations.sum())

    @property
    def inconsistent(self) -> np.ndarray:
        """Mask `(T,)`, bool, of frames in which an attribute exceeds its limit or cannot be measured."""
        return np.logical_not((self.consistency_ratio <= 1).all(axis=1))

    @property
    def invalid(self) -> np.ndarray:
        """Mask `(T,)`, bool, of frames that violate an anatomical criterion."""
        return np.asarray(self.violations.any(axis=1))


def measure_sequence(
    labels: np.ndarray, spacing: float | tuple[float, float], smoother: Any, cyclic: bool
) -> SequenceReport:
    """Measure label maps `(T, H, W)`, apex up, with pixels of `spacing` mm; `smoother` is a `TemporalSmoother`."""
    return _report(
        measure_cardiac_attributes(labels, spacing), anatomical_violations(labels), spacing, smoother, cyclic
    )


def update_report(
    report: SequenceReport,
    before: np.ndarray,
    after: np.ndarray,
    spacing: tuple[float, float],
    smoother: Any,
    cyclic: bool,
) -> SequenceReport:
    """Measure label maps `after`, given the report of `before`; only frames that differ are measured anew."""
    changed = (without_atrium(before) != without_atrium(after)).any(axis=(1, 2))
    attributes, violations = report.attributes.copy(), report.violations.copy()
    attributes[changed] = measure_cardiac_attributes(after[changed], spacing)
    violations[changed] = anatomical_violations(after[changed])
    return _report(attributes, violations, spacing, smoother, cyclic)


def abstaining_report(report: SequenceReport, changed: np.ndarray) -> SequenceReport:
    """The report of a correction that changed frames `(T,)`, with `abstained` set in the others."""
    return replace(report, abstained=np.logical_not(report.consistency_ratio <= 1) & ~changed[:, None])


def abstention_messages(report: SequenceReport) -> list[str]:
    """Say which frames of a correction are still inconsistent or invalid; empty if no frame is."""
    frames = np.flatnonzero(report.inconsistent | report.invalid)
    if not len(frames):
        return []
    return [
        f"No correction made frames {', '.join(map(str, frames))} consistent with the others and valid. Look at them, "
        "and segment them anew if they are wrong."
    ]


def _report(
    attributes: np.ndarray,
    violations: np.ndarray,
    spacing: float | tuple[float, float],
    smoother: Any,
    cyclic: bool,
) -> SequenceReport:
    rows, columns = (spacing, spacing) if isinstance(spacing, int | float) else spacing
    volumes = area_length_volumes(attributes)
    fraction = ejection_fraction(volumes)
    ratio = smoother.consistency_ratio(attributes, cyclic, float(np.sqrt(rows * columns)))
    interval = ejection_fraction_interval(volumes, cyclic)
    return SequenceReport(attributes, ratio, violations, fraction, interval, np.zeros(ratio.shape, bool))
