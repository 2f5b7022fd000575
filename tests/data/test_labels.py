from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.data.labels import to_label_ids


@pytest.mark.parametrize(
    ("values", "ids", "dtype"),
    [
        (np.array([0, 3.9999998, 1.0004], np.float32), [0, 4, 1], np.uint8),
        (np.array([[0, 260]], np.int16), [[0, 260]], np.uint16),
        (np.array([14175, 1], ">i4"), [14175, 1], np.uint16),
        (np.array([70_000.0]), [70_000], np.uint32),
        (np.array([True, False]), [1, 0], np.uint8),
        (np.array([-1e-4, 2]), [0, 2], np.uint8),
        (np.empty((0, 3), np.float32), np.empty((0, 3)), np.uint8),
    ],
)
def test_labels_are_rounded_and_never_truncated(values: np.ndarray, ids: object, dtype: type) -> None:
    found = to_label_ids(values)
    np.testing.assert_array_equal(found, ids)
    assert found.dtype == dtype


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([1 + 0j, 2]), r"x: got values of the type complex128; expected integers"),
        (np.array(["1", "2"]), r"x: got values of the type <U1; expected integers"),
        (np.array([1, None], object), r"x: got values of the type object; expected integers"),
        (np.array([b"1"]), r"x: got values of the type \|S1"),
        (np.array([1], "datetime64[s]"), r"x: got values of the type datetime64"),
        (np.array([0, 0.5, 1]), r"x: got 1 voxels that are not labels, such as 0\.5; expected integers"),
        (np.array([0, 1.002], np.float32), "not labels"),
        (np.array([np.nan]), "such as nan"),
        (np.array([np.inf]), "such as inf"),
        (np.array([-1, 2]), "labels from -1 to 2; expected them from 0"),
        (np.array([260], np.int16), "labels from 260 to 260; expected them from 0 to 255"),
    ],
)
def test_other_values_are_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_label_ids(values, "x", largest=255)
