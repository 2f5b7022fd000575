"""Quality filter: copies, mirrored or not, empty and broken volumes are flagged, new ones are not."""

from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.generation.quality_filter import QualityFilter

rng = np.random.default_rng(0)


def blob(centre: float, size: float) -> np.ndarray:
    """A bright ball (1, 20, 20, 20)."""
    x = np.arange(20) - 9.5
    distance = np.sqrt((x[:, None, None] - centre) ** 2 + x[:, None] ** 2 + x**2)
    return np.float32(distance < size)[None]


KNOWN = [blob(centre, size) for centre, size in rng.uniform((-4, 4), (4, 7), (12, 2))]
FILTER = QualityFilter.fit(KNOWN, axis=1)


@pytest.mark.parametrize("mirrored", [False, True])
def test_copies_are_flagged(mirrored: bool) -> None:
    copy = np.clip(KNOWN[3] + 1e-4 * rng.normal(size=KNOWN[3].shape), 0, 1).astype(np.float32)
    result = FILTER.check(np.flip(copy, 1) if mirrored else copy)
    assert result["issues"] == "copy" and result["nearest"] < FILTER.limit


def test_new_volumes_pass() -> None:
    result = FILTER.check(blob(0.2, 5.6) * 0.8)
    assert result["issues"] == "" and result["nearest"] > FILTER.limit
    assert result["foreground"] == pytest.approx((blob(0.2, 5.6) > 0).mean())


def test_no_two_known_volumes_are_nearer_than_the_limit() -> None:
    others = QualityFilter.fit(KNOWN[1:], axis=1)
    assert others.check(KNOWN[0])["nearest"] >= FILTER.limit * (1 - 1e-5)


@pytest.mark.parametrize(
    ("volume", "issues"),
    [
        (np.zeros((1, 20, 20, 20), np.float32), "foreground"),
        (np.ones((1, 20, 20, 20), np.float32), "foreground"),
        (np.full((1, 20, 20, 20), np.nan, np.float32), "not finite"),
    ],
)
def test_failed_samples_are_flagged(volume: np.ndarray, issues: str) -> None:
    assert FILTER.check(volume)["issues"] == issues


def test_one_volume_is_not_enough_to_compare_with() -> None:
    with pytest.raises(ValueError, match="Got 1 known images; expected two or more"):
        QualityFilter.fit(KNOWN[:1], axis=1)
