"""Reports of sequences: frames that did not change need not be measured again."""

from __future__ import annotations

import numpy as np

from meddiffusers import TemporalSmoother
from meddiffusers.data.phantoms.cardiac import CardiacPhantom
from meddiffusers.pipelines.meddiffusers_cardiac_attributes_v1 import CARDIAC_ATTRIBUTES, measure_cardiac_attributes
from meddiffusers.pipelines.meddiffusers_cardiac_report_v1 import measure_sequence, update_report

SPACING = (1.25, 1.25)


def test_an_updated_report_equals_a_new_one() -> None:
    phantom = CardiacPhantom(11)
    clean = phantom.labels(phantom.phases(9))
    smoother = TemporalSmoother.from_references([measure_cardiac_attributes(clean, SPACING)], list(CARDIAC_ATTRIBUTES))
    corrupted = clean.copy()
    corrupted[3] = np.roll(clean[3], 8, axis=1)
    corrupted[5][clean[5] == 2] = 0
    before = measure_sequence(clean, SPACING, smoother, cyclic=True)
    expected = measure_sequence(corrupted, SPACING, smoother, cyclic=True)
    updated = update_report(before, clean, corrupted, SPACING, smoother, cyclic=True)
    for name in ("attributes", "consistency_ratio", "violations", "ejection_fraction", "inconsistent", "invalid"):
        np.testing.assert_array_equal(getattr(updated, name), getattr(expected, name))
    assert np.flatnonzero(expected.invalid).tolist() == [5] and expected.inconsistent[3]
    assert not before.invalid.any()
