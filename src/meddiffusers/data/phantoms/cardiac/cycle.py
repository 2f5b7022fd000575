"""One heart beat: how far the left ventricle has emptied at each phase.

phase        0 at end diastole, 1 at the next end diastole                                           fraction of a beat
contraction  0 at end diastole, 1 at end systole: the fraction of the stroke volume that has left
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_FILLING, _ATRIAL_CONTRACTION = 0.30, 0.17  # seconds, nearly the same at any heart rate


@dataclass(frozen=True)
class Cycle:
    """heart_rate: beats a minute; atrial_share: the part of the filling that the atrium's contraction brings."""

    heart_rate: float
    atrial_share: float

    @property
    def seconds(self) -> float:
        """Length of a beat."""
        return 60 / self.heart_rate

    @property
    def end_systole(self) -> float:
        """Phase at which the ventricle is smallest.

        Electromechanical systole lasts 546 − 2.1·rate ms (Weissler et al., Circulation 1968; men), of which about 46 ms
        pass before the valve closes: a fast heart loses diastole, not systole.
        """
        return (0.500 - 0.0021 * self.heart_rate) / self.seconds

    def contraction(self, phase: np.ndarray) -> np.ndarray:
        """In [0, 1]: ejection, rapid filling, a plateau where the rate leaves time for one, the atrium's share."""
        end, atrium = self.end_systole, 1 - _ATRIAL_CONTRACTION / self.seconds
        phase = np.asarray(phase, dtype=float) % 1
        filled = _step((phase - end) / min(_FILLING / self.seconds, 1 - end))
        topped_up = _step((phase - atrium) / (1 - atrium))
        return _step(phase / end) - (1 - self.atrial_share) * filled - self.atrial_share * topped_up

    def opening(self, phase: np.ndarray) -> np.ndarray:
        """Of the mitral valve, in [0, 1]: as fast as the ventricle fills, half shut in between."""
        ahead, behind = (self.contraction(np.asarray(phase) + shift) for shift in (0.02, -0.02))
        inflow = np.clip(behind - ahead, 0, None)
        return np.clip(inflow / 0.04, 0, 1) ** 0.5


def _step(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, between them the polynomial with two derivatives that vanish at the ends."""
    x = np.clip(x, 0, 1)
    return x**3 * (10 - 15 * x + 6 * x**2)
