"""Neighbouring frames, overlap, and the left atrium on small label maps with known results."""

from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.pipelines.meddiffusers_cardiac_masks_v1 import (
    add_atrium,
    fields_to_labels,
    min_dice,
    neighbouring_frames,
    without_atrium,
)


def test_neighbouring_frames_are_the_nearest_kept_ones() -> None:
    outliers = np.array([True, False, True, True, False, True])
    np.testing.assert_array_equal(neighbouring_frames(outliers), [[1, 1], [1, 4], [1, 4], [4, 4]])


def test_fields_give_the_label_map() -> None:
    lv, lv_myo = np.array([[[1.0, -1.0, -1.0]]]), np.array([[[1.0, 1.0, -1.0]]])
    np.testing.assert_array_equal(fields_to_labels(lv, lv_myo), [[[1, 2, 0]]])


def test_the_smaller_dice_counts() -> None:
    labels = np.array([[[1, 1, 2, 2]]])
    others = np.array([[[1, 1, 2, 0]]])
    assert min_dice(labels, labels) == pytest.approx([1.0])
    assert min_dice(labels, others) == pytest.approx([2 / 3])


def test_regenerated_frames_take_the_atrium_of_the_nearest_frame() -> None:
    original = np.zeros((3, 30, 30), np.uint8)
    original[:, 5:15, 10:20] = 1
    original[0, 15:25, 10:20] = 3
    ventricle = without_atrium(original)
    ventricle[1, 13:15] = 0  # the base has moved up by two pixels
    result = add_atrium(ventricle, original, np.array([False, True, False]))
    np.testing.assert_array_equal(result[[0, 2]], original[[0, 2]])
    np.testing.assert_array_equal(result[1, :13], original[1, :13])
    assert (result[1, 13:25, 12:18] == 3).all()  # the gap is closed
