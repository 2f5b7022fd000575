"""The motion of borders: exact for slow motion, outliers found, jitter measured and removed."""

from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.data.phantoms.cardiac import CardiacPhantom
from meddiffusers.data.phantoms.cardiac.errors import corrupt_frame
from meddiffusers.datasets.cardiac_frames import jitter_borders
from meddiffusers.pipelines.meddiffusers_cardiac_masks_v1 import min_dice, without_atrium
from meddiffusers.pipelines.meddiffusers_cardiac_motion_v1 import fit_border_motion, fit_signal, prediction_errors

SPACING, FRAMES = 1.25, 25
ALL = np.ones(FRAMES, bool)


def heart(seed: int = 5, half_cycle: bool = False) -> np.ndarray:
    phantom = CardiacPhantom(seed)
    return without_atrium(phantom.labels(phantom.phases(FRAMES, half_cycle)))


@pytest.mark.slow
@pytest.mark.parametrize("half_cycle", [False, True])
def test_clean_frames_are_no_outliers_and_are_fitted_within_a_pixel(half_cycle: bool) -> None:
    clean = heart(half_cycle=half_cycle)
    motion = fit_border_motion(clean, ALL, (SPACING, SPACING), cyclic=not half_cycle)
    assert not motion.outliers.any() and motion.noise < SPACING / 3
    assert min_dice(motion.labels, clean).min() > 0.93


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jump", "rotate", "lv_over", "lv_under"])
def test_spoilt_frames_are_the_outliers_and_are_restored(kind: str) -> None:
    clean = heart()
    spoilt = clean.copy()
    for t in (3, 14):
        spoilt[t] = corrupt_frame(clean[t], kind, SPACING, np.random.default_rng(t))[0]
    motion = fit_border_motion(spoilt, ALL, (SPACING, SPACING), cyclic=True)
    assert np.flatnonzero(motion.outliers).tolist() == [3, 14]
    assert min_dice(motion.labels, clean)[[3, 14]].min() > 0.9


@pytest.mark.slow
def test_jitter_is_measured_and_removed() -> None:
    clean = heart()
    jittered = jitter_borders(clean, SPACING, 1.0, np.random.default_rng(0))
    motion = fit_border_motion(jittered, ALL, (SPACING, SPACING), cyclic=True)
    assert 0.7 < motion.noise < 1.5 and motion.gain < 0.85
    assert min_dice(motion.labels, clean).mean() > min_dice(jittered, clean).mean() + 0.01


def test_the_fit_of_a_signal_is_that_of_the_smallest_prediction_error() -> None:
    """Leaving a frame out and predicting it from the others gives the error that the matrix states."""
    t = np.linspace(0, 1, 20)
    signal = np.sin(5 * t) + 0.05 * np.random.default_rng(0).standard_normal(20)
    kept = np.ones(20, bool)
    matrix = fit_signal(signal, kept, cyclic=False)
    errors = prediction_errors(signal, matrix)
    assert np.sqrt(np.mean(errors**2)) < 0.12 and np.ptp(matrix @ signal - np.sin(5 * t)) < 0.2
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    parabola = t**2
    np.testing.assert_allclose(fit_signal(parabola, kept, cyclic=False) @ parabola, parabola, atol=1e-6)
