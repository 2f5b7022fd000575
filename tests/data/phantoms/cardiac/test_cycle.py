from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.data.phantoms.cardiac.cycle import CardiacCycle

RATES = (45, 65, 90, 120)


@pytest.mark.parametrize("rate", RATES)
def test_the_ventricle_empties_once_and_fills_again(rate: float) -> None:
    cycle = CardiacCycle(rate, 0.25)
    phases = np.linspace(0, 1, 2001)
    contraction = cycle.contraction(phases)
    assert contraction[0] == contraction[-1] == 0
    assert cycle.contraction(np.array([cycle.end_systole]))[0] == 1
    emptying = phases < cycle.end_systole
    assert (np.diff(contraction[emptying]) >= 0).all()
    assert (np.diff(contraction[~emptying]) <= 1e-12).all()


@pytest.mark.parametrize("rate", RATES)
def test_the_contraction_is_smooth(rate: float) -> None:
    """Velocity and acceleration are continuous, between successive cycles too."""
    contraction = CardiacCycle(rate, 0.25).contraction(np.linspace(0.5, 1.5, 4001))
    acceleration = np.diff(contraction, 2) * 4000**2
    assert abs(np.diff(acceleration)).max() < 0.02 * np.ptp(acceleration)


def test_the_atrium_contributes_its_share_after_diastasis() -> None:
    cycle = CardiacCycle(60, 0.3)
    diastasis = cycle.contraction(np.linspace(0.71, 0.82, 20))
    np.testing.assert_allclose(diastasis, 0.3, atol=1e-9)
    assert CardiacCycle(110, 0.3).contraction(np.array([0.715]))[0] > 0.35  # no diastasis at a high heart rate


def test_systole_takes_a_larger_fraction_at_a_high_heart_rate() -> None:
    """Weissler's 546 − 2.1·rate ms from the onset of the QRS complex, less 46 ms."""
    for rate in RATES:
        cycle = CardiacCycle(rate, 0.25)
        assert cycle.end_systole * cycle.seconds == pytest.approx((546 - 2.1 * rate - 46) / 1000)
    assert CardiacCycle(120, 0.25).end_systole > CardiacCycle(60, 0.25).end_systole


def test_the_mitral_valve_is_closed_during_ejection() -> None:
    cycle = CardiacCycle(60, 0.3)
    assert cycle.opening(np.linspace(0.02, cycle.end_systole - 0.02, 20)).max() < 0.05
    filling, atrium = cycle.end_systole + 0.15, 0.91
    assert cycle.opening(np.array([filling, atrium])).min() > 0.5
    assert cycle.opening(np.array([0.75]))[0] < 0.2
