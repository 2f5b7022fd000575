"""The interval of an ejection fraction contains the true one, grows with the jitter, and ignores outliers."""

from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.pipelines.meddiffusers_cardiac_attributes_v1 import ejection_fraction
from meddiffusers.pipelines.meddiffusers_cardiac_ejection_v1 import ejection_fraction_interval

FRAMES = 30


def volumes(fraction: float = 0.55, frames: int = FRAMES) -> np.ndarray:
    return 120 * (1 - fraction * (1 - np.cos(2 * np.pi * np.arange(frames) / (frames - 1))) / 2)


@pytest.mark.slow
def test_the_interval_contains_the_true_and_the_measured_fraction() -> None:
    within = []
    for seed in range(20):
        measured = volumes() + 4 * np.random.default_rng(seed).standard_normal(FRAMES)
        low, high = ejection_fraction_interval(measured, cyclic=True)
        within.append((low <= 0.55 <= high, low <= ejection_fraction(measured) <= high))
    assert np.mean(within, axis=0).min() >= 0.85


def test_the_interval_grows_with_the_jitter_and_vanishes_without() -> None:
    noise = np.random.default_rng(2).standard_normal(FRAMES)
    intervals = [ejection_fraction_interval(volumes() + size * noise, cyclic=True) for size in (0.0, 2.0, 6.0)]
    widths = [high - low for low, high in intervals]
    assert widths[0] < 0.01 < 0.03 < widths[1] < widths[2]


def test_spoilt_frames_do_not_count() -> None:
    measured = volumes() + 0.5 * np.random.default_rng(1).standard_normal(FRAMES)
    expected = ejection_fraction_interval(measured, cyclic=True)
    spoilt = measured.copy()
    spoilt[[4, 20]] = 10.0, np.nan
    np.testing.assert_allclose(ejection_fraction_interval(spoilt, cyclic=True), expected, atol=0.02)
    assert ejection_fraction(spoilt) > 0.9


def test_few_frames_have_no_interval() -> None:
    assert np.isnan(ejection_fraction_interval(volumes(frames=5), cyclic=False)).all()
