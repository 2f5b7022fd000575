from __future__ import annotations

import numpy as np
import pytest
from helpers.plain_brain import volume_grid

from meddiffusers.data.phantoms.brain.lesions.raters import RATERS, Raters, uncertain_raters

GRID = volume_grid(4.0)


def test_offsets_of_the_complete_raters_have_mean_0_everywhere() -> None:
    offsets = Raters(np.random.default_rng(0), detail=8.0).offsets(GRID)
    assert offsets.shape[0] == RATERS
    np.testing.assert_allclose(offsets[:3].mean(axis=0), 0, atol=1e-6)


def test_rater_bias_and_spread_are_as_configured() -> None:
    biases = np.mean(
        [
            Raters(np.random.default_rng(seed), 10.0, spread=0.2).offsets(GRID).mean(axis=(1, 2, 3))
            for seed in range(30)
        ],
        axis=0,
    )
    assert biases == pytest.approx(0.2 * np.array([0.9, -0.9, 0.0, 0.6, -1.1]), abs=0.05)


def test_a_narrow_spread_brings_the_same_outlines_closer() -> None:
    wide, narrow = (Raters(np.random.default_rng(3), 10.0, spread).offsets(GRID) for spread in (0.3, 0.1))
    np.testing.assert_allclose(wide, 3 * narrow, rtol=1e-4, atol=1e-6)


def test_at_most_the_last_two_miss_a_focus() -> None:
    assert uncertain_raters(np.random.default_rng(0), 1.0) == {3, 4}
    assert uncertain_raters(np.random.default_rng(0), 0.0) == frozenset()
