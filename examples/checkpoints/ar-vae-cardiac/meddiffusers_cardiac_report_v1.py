"""Measurements of a sequence of label maps: attributes, temporal consistency, anatomical validity, ejection fraction.

Published pipelines import this file from beside them. It is published with each of these pipelines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .meddiffusers_cardiac_attributes_v1 import area_length_volumes, ejection_fraction, measure_cardiac_attributes
from .meddiffusers_cardiac_masks_v1 import without_atrium
from .meddiffusers_cardiac_validity_v1 import anatomical_violations

PUBLISHED_AS = "meddiffusers_cardiac_report_v1"  # the file has the same name in a repository


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
    """

    attributes: np.ndarray
    consistency_ratio: np.ndarray
    violations: np.ndarray
    ejection_fraction: float

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
    return _report(measure_cardiac_attributes(labels, spacing), anatomical_violations(labels), smoother, cyclic)


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
    return _report(attributes, violations, smoother, cyclic)


def _report(attributes: np.ndarray, violations: np.ndarray, smoother: Any, cyclic: bool) -> SequenceReport:
    fraction = ejection_fraction(area_length_volumes(attributes))
    return SequenceReport(attributes, smoother.consistency_ratio(attributes, cyclic), violations, fraction)
