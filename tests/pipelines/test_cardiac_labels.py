from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.pipelines.meddiffusers_cardiac_labels_v1 import to_label_maps


def test_scaled_labels_are_rounded_and_others_refused() -> None:
    labels = np.array([[0, 2.9999998], [1.0002, 2]], np.float32)
    found = to_label_maps(labels)
    np.testing.assert_array_equal(found, [[[0, 3], [1, 2]]])
    assert found.dtype == np.uint8
    for wrong in (0.5, 1.002, np.nan, np.inf, 260):
        with pytest.raises(ValueError, match="expected 0 background"):
            to_label_maps(np.array([[0, wrong]]))
