from __future__ import annotations

import numpy as np

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
