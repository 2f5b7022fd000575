"""Clean phantoms are valid, each kind of error is detected, and fragments and holes are removed exactly."""

from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.data.phantoms.cardiac import CardiacPhantom
from meddiffusers.data.phantoms.cardiac.errors import corrupt_frame
from meddiffusers.data.phantoms.cardiac.varied import SIDE
from meddiffusers.pipelines.meddiffusers_cardiac_validity_v1 import CRITERIA, anatomical_violations, clean_label_map

CLEANED = ("hole_lv", "hole_myo", "fragment")


@pytest.fixture(scope="module")
def hearts() -> np.ndarray:
    phantoms = (CardiacPhantom(seed, view=("4CH", "2CH")[seed % 2]) for seed in range(400, 408))
    return np.concatenate([phantom.labels(phantom.phases(5)[:4]) for phantom in phantoms])


def corrupt_frames(hearts: np.ndarray, kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([corrupt_frame(frame, kind, 1.25, rng)[0] for frame in hearts])


def test_clean_hearts_are_valid_and_stay_unchanged(hearts: np.ndarray) -> None:
    assert not anatomical_violations(hearts).any()
    for frame in hearts:
        np.testing.assert_array_equal(clean_label_map(frame), frame)


@pytest.mark.parametrize("kind", CLEANED)
def test_fragments_and_holes_are_detected_and_removed(hearts: np.ndarray, kind: str) -> None:
    corrupted = corrupt_frames(hearts, kind)
    assert anatomical_violations(corrupted).any(axis=1).all()
    for frame, heart in zip(corrupted, hearts, strict=True):
        if kind != "fragment":
            np.testing.assert_array_equal(clean_label_map(frame), heart)
        else:  # the atrium below a fragment is unknown
            np.testing.assert_array_equal(np.isin(clean_label_map(frame), (1, 2)), np.isin(heart, (1, 2)))


@pytest.mark.parametrize("kind", ["leak", "missing_myo", "apex_cut"])
def test_other_errors_remain_detected_after_cleaning(hearts: np.ndarray, kind: str) -> None:
    corrupted = corrupt_frames(hearts, kind)
    cleaned = np.stack([clean_label_map(frame) for frame in corrupted])
    assert anatomical_violations(cleaned)[:, CRITERIA.index("lv_background_contact")].mean() > 0.9


def test_varied_hearts_are_valid() -> None:
    """Small to dilated, thin to hypertrophied, scarred, tilted; fine and coarse pixels."""
    for seed in range(60):
        phantom = CardiacPhantom(seed, varied=True)
        side = (90, 120, 180)[seed % 3]
        labels = phantom.labels(np.array([0, phantom.end_systole]), (side, side), SIDE / side)
        assert not anatomical_violations(labels).any(), seed


def test_a_wall_that_the_sector_cuts_in_two_is_not_taken_for_a_fragment(hearts: np.ndarray) -> None:
    cut = hearts[0].copy()
    cut[45:51, :][cut[45:51, :] == 2] = 0
    assert anatomical_violations(cut[None]).any()
    assert (clean_label_map(cut) == 2).sum() == (cut == 2).sum()


@pytest.mark.parametrize("kind", ["jump", "rotate"])
def test_a_displaced_heart_is_valid(hearts: np.ndarray, kind: str) -> None:
    assert anatomical_violations(corrupt_frames(hearts, kind)).any(axis=1).mean() < 0.1


def test_each_criterion_by_its_name() -> None:
    """Rectangles that violate one criterion each."""
    heart = np.zeros((60, 60), np.uint8)
    heart[5:45, 10:50] = 2
    heart[13:45, 18:42] = 1
    assert not anatomical_violations(heart[None]).any()
    errors = {
        "lv_hole": (slice(20, 23), slice(25, 28), 0),
        "myo_hole": (slice(8, 10), slice(25, 28), 0),
        "lv_fragmented": (slice(50, 53), slice(20, 23), 1),
        "myo_fragmented": (slice(50, 53), slice(20, 23), 2),
    }
    for criterion, (rows, columns, label) in errors.items():
        corrupted = heart.copy()
        corrupted[rows, columns] = label
        violated = {name for name, v in zip(CRITERIA, anatomical_violations(corrupted[None])[0], strict=True) if v}
        assert violated - {"lv_myo_hole", "lv_background_contact", "myo_too_thin", "lv_too_wide"} == {criterion}
    gap = heart.copy()
    gap[20:25, 17:20] = 0
    assert anatomical_violations(gap[None])[0, CRITERIA.index("lv_myo_hole")]


def test_incomplete_hearts_are_invalid() -> None:
    frames = np.zeros((3, 20, 20), np.uint8)
    frames[1, 5:9, 5:9] = 1
    frames[2, 5:9, 5:9] = 2
    assert anatomical_violations(frames).any(axis=1).all()
    for frame in frames:
        np.testing.assert_array_equal(clean_label_map(frame), frame)
    assert anatomical_violations(frames[:0]).shape == (0, len(CRITERIA))
