"""A beating heart in an apical view, a function of one seed."""

from __future__ import annotations

import numpy as np

from meddiffusers.data.phantoms.cardiac.bmode import Scanner
from meddiffusers.data.phantoms.cardiac.ground_truth import measure_outlines
from meddiffusers.data.phantoms.cardiac.heart import QUALITIES, VIEWS, draw_heart
from meddiffusers.data.phantoms.cardiac.labels import label_maps
from meddiffusers.data.phantoms.cardiac.outlines import Outlines, outlines

SHAPE, SPACING = (128, 128), 1.25  # pixels and mm that show ventricle and atrium, 160 mm deep


class CardiacPhantom:
    """Left ventricle with its wall and atrium over a beat, as mm in the image plane of an ultrasound probe.

    seed: the patient; both views of one patient have the same length, ejection fraction, heart rate and quality.
    view: "4CH" or "2CH", the apical four- and two-chamber views.
    ejection_fraction in [0.1, 0.8], heart_rate in [40, 130] beats a minute, length in [60, 110] mm and width in
    [30, 65] mm at end diastole, quality "Good", "Medium" or "Poor": drawn from the seed where None.

    Phases are floats in fractions of a beat: 0 is end diastole, `end_systole` the smallest ventricle, 1 end diastole
    again. A image's pixel (row, column) has its centre at y = (row + ½)·spacing from the probe and
    x = (column + ½ − W/2)·spacing from the middle.

    Raises:
        ValueError: a view or quality of another name, a seed below 0, a value out of its range.
    """

    def __init__(
        self,
        seed: int,
        view: str = "4CH",
        *,
        ejection_fraction: float | None = None,
        heart_rate: float | None = None,
        length: float | None = None,
        width: float | None = None,
        quality: str | None = None,
    ) -> None:
        if view not in VIEWS:
            raise ValueError(f"A cardiac phantom got the view {view!r}; expected one of {', '.join(VIEWS)}.")
        if seed < 0:
            raise ValueError(f"A cardiac phantom got the seed {seed}; expected 0 or above.")
        if quality not in (None, *QUALITIES):
            raise ValueError(f"A cardiac phantom got the quality {quality!r}; expected one of {', '.join(QUALITIES)}.")
        _check("ejection_fraction", ejection_fraction, 0.1, 0.8)
        _check("heart_rate", heart_rate, 40, 130)
        _check("length", length, 60, 110)
        _check("width", width, 30, 65)
        self.seed, self.view = seed, view
        self.heart = draw_heart(seed, view, ejection_fraction, heart_rate, length, width, quality)

    @property
    def ejection_fraction(self) -> float:
        return self.heart.ejection_fraction

    @property
    def end_systole(self) -> float:
        """Phase of the smallest ventricle; the largest is at 0 and 1."""
        return self.heart.cycle.end_systole

    def phases(self, frames: int = 25, half_cycle: bool = False) -> np.ndarray:
        """Evenly spaced, the first and last at end diastole, or the last at end systole for half a cycle."""
        return np.linspace(0, self.end_systole if half_cycle else 1, frames)

    def key_frames(self, phases: np.ndarray) -> tuple[int, int]:
        """Which of the phases, counted from 0, has the largest ventricle (the first such) and which the smallest."""
        contraction = self.heart.cycle.contraction(phases)
        return int(contraction.argmin()), int(contraction.argmax())

    def outlines(self, phases: np.ndarray) -> Outlines:
        return outlines(self.heart, np.asarray(phases, dtype=float))

    def truth(self, phases: np.ndarray) -> dict[str, np.ndarray]:
        """The measurements of `cardiac_phantom.truth.TRUTH`, each (F,)."""
        return measure_outlines(self.outlines(phases))

    def labels(self, phases: np.ndarray, shape: tuple[int, int] = SHAPE, spacing: float = SPACING) -> np.ndarray:
        """uint8 (F, H, W): 1 cavity, 2 wall, 3 left atrium; `spacing` in mm."""
        return label_maps(self.outlines(phases), shape, spacing)

    def images(self, phases: np.ndarray, shape: tuple[int, int] = SHAPE, spacing: float = SPACING) -> np.ndarray:
        """uint8 (F, H, W): B-mode ultrasound of the same places; speckle follows the wall from frame to frame."""
        seed = [self.seed, VIEWS.index(self.view), 1]
        scanner = Scanner(self.outlines(np.zeros(1)), self.view, self.heart.quality, seed, shape, spacing)
        blood = np.rint(np.asarray(phases) * 1e6).astype(np.int64) * 7919  # other blood in other frames
        return scanner.images(self.outlines(phases), self.heart.cycle.opening(phases), blood)


def _check(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise ValueError(f"A cardiac phantom got {name} = {value}; expected {low} to {high}, or None to draw it.")
