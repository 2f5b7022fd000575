"""Clean phantoms are valid, each kind of error is found, and what is loose or holed is mended exactly."""

from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.data.phantoms.cardiac import CardiacPhantom
from meddiffusers.data.phantoms.cardiac.errors import spoilt
from meddiffusers.pipelines.meddiffusers_heart_validity_v1 import ISSUES, heart_issues, tidied

MENDED = ("hole_lv", "hole_myo", "fragment")


@pytest.fixture(scope="module")
def hearts() -> np.ndarray:
    phantoms = (CardiacPhantom(seed, view=("4CH", "2CH")[seed % 2]) for seed in range(400, 408))
    return np.concatenate([phantom.labels(phantom.phases(5)[:4]) for phantom in phantoms])


def spoilt_hearts(hearts: np.ndarray, kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([spoilt(frame, kind, 1.25, rng)[0] for frame in hearts])


def test_clean_hearts_are_valid_and_stay(hearts: np.ndarray) -> None:
    assert not heart_issues(hearts).any()
    for frame in hearts:
        np.testing.assert_array_equal(tidied(frame), frame)


@pytest.mark.parametrize("kind", MENDED)
def test_what_is_loose_or_holed_is_found_and_mended(hearts: np.ndarray, kind: str) -> None:
    broken = spoilt_hearts(hearts, kind)
    assert heart_issues(broken).any(axis=1).all()
    for frame, heart in zip(broken, hearts, strict=True):
        if kind != "fragment":
            np.testing.assert_array_equal(tidied(frame), heart)
        else:  # where it lay, nothing says whether there was atrium
            np.testing.assert_array_equal(np.isin(tidied(frame), (1, 2)), np.isin(heart, (1, 2)))


@pytest.mark.parametrize(
    ("kind", "issue"), [("leak", "open_side"), ("missing_myo", "open_side"), ("apex_cut", "thin_wall")]
)
def test_what_no_tidying_mends_is_still_found(hearts: np.ndarray, kind: str, issue: str) -> None:
    broken = spoilt_hearts(hearts, kind)
    tidy = np.stack([tidied(frame) for frame in broken])
    assert heart_issues(tidy)[:, ISSUES.index(issue)].mean() > 0.9


@pytest.mark.parametrize("kind", ["jump", "rotate"])
def test_a_whole_heart_elsewhere_is_a_heart(hearts: np.ndarray, kind: str) -> None:
    assert heart_issues(spoilt_hearts(hearts, kind)).any(axis=1).mean() < 0.1


def test_each_issue_by_its_name() -> None:
    """Rings and squares that have one issue each."""
    heart = np.zeros((60, 60), np.uint8)
    heart[5:45, 10:50] = 2
    heart[13:45, 18:42] = 1
    assert not heart_issues(heart[None]).any()
    cases = {
        "hole_lv": (slice(20, 23), slice(25, 28), 0),
        "hole_wall": (slice(8, 10), slice(25, 28), 0),
        "parts_lv": (slice(50, 53), slice(20, 23), 1),
        "parts_wall": (slice(50, 53), slice(20, 23), 2),
    }
    for issue, (rows, columns, label) in cases.items():
        broken = heart.copy()
        broken[rows, columns] = label
        found = {name for name, wrong in zip(ISSUES, heart_issues(broken[None])[0], strict=True) if wrong}
        assert found - {"hole_heart", "open_side", "thin_wall", "wide_cavity"} == {issue}
    between = heart.copy()
    between[20:25, 17:20] = 0
    assert heart_issues(between[None])[0, ISSUES.index("hole_heart")]


def test_nothing_is_no_heart() -> None:
    frames = np.zeros((3, 20, 20), np.uint8)
    frames[1, 5:9, 5:9] = 1
    frames[2, 5:9, 5:9] = 2
    assert heart_issues(frames).any(axis=1).all()
    for frame in frames:
        np.testing.assert_array_equal(tidied(frame), frame)
    assert heart_issues(frames[:0]).shape == (0, len(ISSUES))
