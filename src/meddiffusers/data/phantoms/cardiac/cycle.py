"""The cardiac cycle: how far the left ventricle has emptied at each phase.

| symbol | meaning |
|---|---|
| phase | time as a fraction of the cycle: 0 at end diastole, 1 at the next end diastole |
| contraction | ejected fraction of the stroke volume: 0 at end diastole, 1 at end systole |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_FILLING, _ATRIAL_CONTRACTION = 0.30, 0.17  # seconds, nearly the same at any heart rate


@dataclass(frozen=True)
class CardiacCycle:
    """Timing of ejection and filling.

    Args:
        heart_rate: Beats per minute.
        atrial_share: Fraction of the filling that atrial contraction contributes.
    """

    heart_rate: float
    atrial_share: float

    @property
    def seconds(self) -> float:
        """Duration of the cycle in seconds."""
        return 60 / self.heart_rate

    @property
    def end_systole(self) -> float:
        """Phase at which the ventricle is smallest.

        Electromechanical systole lasts 546 − 2.1·rate ms (Weissler et al., Circulation 1968; men). About 46 ms of it
        precede the closure of the mitral valve. A higher heart rate shortens diastole more than systole.
        """
        return (0.500 - 0.0021 * self.heart_rate) / self.seconds

    def contraction(self, phase: np.ndarray) -> np.ndarray:
        """Compute the contraction in [0, 1] at phases of any shape.

        It has ejection, rapid filling, diastasis if the heart rate leaves time for it, and atrial filling.
        """
        end, atrial = self.end_systole, 1 - _ATRIAL_CONTRACTION / self.seconds
        phase = np.asarray(phase, dtype=float) % 1
        rapid_filling = _step((phase - end) / min(_FILLING / self.seconds, 1 - end))
        atrial_filling = _step((phase - atrial) / (1 - atrial))
        return _step(phase / end) - (1 - self.atrial_share) * rapid_filling - self.atrial_share * atrial_filling

    def opening(self, phase: np.ndarray) -> np.ndarray:
        """Compute the opening of the mitral valve in [0, 1], which follows the rate of filling."""
        ahead, behind = (self.contraction(np.asarray(phase) + shift) for shift in (0.02, -0.02))
        inflow = np.clip(behind - ahead, 0, None)
        return np.clip(inflow / 0.04, 0, 1) ** 0.5


def _step(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, and between them the polynomial whose first two derivatives vanish at both ends."""
    x = np.clip(x, 0, 1)
    return x**3 * (10 - 15 * x + 6 * x**2)
