"""The gate: copies, mirrored or not, empty and broken volumes are flagged, new ones are not."""

from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.generation.quality_filter import QualityFilter

rng = np.random.default_rng(0)


def blob(centre: float, size: float) -> np.ndarray:
    """(1, 20, 20, 20) a bright ball."""
    x = np.arange(20) - 9.5
    distance = np.sqrt((x[:, None, None] - centre) ** 2 + x[:, None] ** 2 + x**2)
    return np.float32(distance < size)[None]


KNOWN = [blob(centre, size) for centre, size in rng.uniform((-4, 4), (4, 7), (12, 2))]
GATE = QualityFilter.of(KNOWN, axis=1)


@pytest.mark.parametrize("turned", [False, True])
def test_copies_are_flagged(turned: bool) -> None:
    copy = np.clip(KNOWN[3] + 1e-4 * rng.normal(size=KNOWN[3].shape), 0, 1).astype(np.float32)
    found = GATE.check(np.flip(copy, 1) if turned else copy)
    assert found["issues"] == "copy" and found["nearest"] < GATE.limit


def test_new_volumes_pass() -> None:
    found = GATE.check(blob(0.2, 5.6) * 0.8)
    assert found["issues"] == "" and found["nearest"] > GATE.limit
    assert found["foreground"] == pytest.approx((blob(0.2, 5.6) > 0).mean())


def test_no_two_known_volumes_are_nearer_than_the_limit() -> None:
    others = QualityFilter.of(KNOWN[1:], axis=1)
    assert others.check(KNOWN[0])["nearest"] >= GATE.limit * (1 - 1e-5)


@pytest.mark.parametrize(
    ("volume", "issues"),
    [
        (np.zeros((1, 20, 20, 20), np.float32), "foreground"),
        (np.ones((1, 20, 20, 20), np.float32), "foreground"),
        (np.full((1, 20, 20, 20), np.nan, np.float32), "not finite"),
    ],
)
def test_what_failed_is_flagged(volume: np.ndarray, issues: str) -> None:
    assert GATE.check(volume)["issues"] == issues


def test_one_volume_is_not_enough_to_compare_with() -> None:
    with pytest.raises(ValueError, match="Got 1 known volumes; expected two or more"):
        QualityFilter.of(KNOWN[:1], axis=1)
