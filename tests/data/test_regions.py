from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.data.regions import MIRRORED, REGIONS, mirrored_labels, region_volumes


def test_mirroring_swaps_the_sides_and_the_words() -> None:
    assert set(MIRRORED) == set(REGIONS)
    for label, other in MIRRORED.items():
        swapped = REGIONS[label].replace("left", "L").replace("right", "left").replace("L", "right")
        assert REGIONS[other] == swapped
    labels = np.array([0, 4, 43, 16, 2, 999], np.int16)
    np.testing.assert_array_equal(mirrored_labels(labels), [0, 43, 4, 16, 41, 999])
    assert mirrored_labels(labels).dtype == np.int16


def test_volumes_are_counted() -> None:
    assert region_volumes(np.array([[0, 4, 4], [16, 0, 4]]), 2.5) == {4: 7.5, 16: 2.5}


def test_volumes_of_scaled_labels_are_those_of_the_nearest_integers() -> None:
    scaled = np.array([[[0, 3.9999998, 4.0000002, 2.0]]], np.float32)
    assert region_volumes(scaled, 2.0) == {4: 4.0, 2: 2.0}
    with pytest.raises(ValueError, match=r"1 voxels that are not labels, such as 3\.5"):
        region_volumes(np.array([3.5]), 1.0)
