"""Phantom of a beating heart in an apical view, determined by one seed."""

from __future__ import annotations

import numpy as np

from meddiffusers.data.phantoms.cardiac.bmode import Scanner
from meddiffusers.data.phantoms.cardiac.ground_truth import measure_outlines
from meddiffusers.data.phantoms.cardiac.heart import QUALITIES, VIEWS, sample_heart
from meddiffusers.data.phantoms.cardiac.labels import label_maps
from meddiffusers.data.phantoms.cardiac.outlines import Outlines, outlines
from meddiffusers.data.phantoms.cardiac.varied import sample_varied_heart

SHAPE, SPACING = (128, 128), 1.25  # pixels and mm; 160 mm deep, which shows ventricle and atrium


class CardiacPhantom:
    """Left ventricle, myocardium and left atrium over the cardiac cycle, in the image plane of an ultrasound probe.

    Phases are fractions of the cardiac cycle: 0 is end diastole, `end_systole` the smallest ventricle, 1 end diastole
    again. The centre of an image's pixel (row, column) lies at depth y = (row + ½)·spacing and x = (column + ½ − W/2)·
    spacing from the middle.

    Args:
        seed: The patient. Both views have the same length, ejection fraction, heart rate and image quality.
        view: "4CH" or "2CH", the apical four- or two-chamber view.
        varied: Whether the heart is one of all that patients have, small to dilated, thin to hypertrophied, scarred,
            tilted and off-centre, in an image of `varied.SIDE` mm, instead of a common one. Further arguments then have
            no place.
        ejection_fraction: In [0.1, 0.8]. Default for this and all further arguments: sampled from the seed.
        heart_rate: Beats per minute, in [40, 130].
        length: Length of the LV at end diastole, in [60, 110] mm.
        width: Width of the LV at end diastole, in [30, 65] mm.
        quality: Image quality, "Good", "Medium" or "Poor".

    Raises:
        ValueError: If the view or the quality is unknown, the seed is negative, or a value is out of its range.

    Example:
        >>> phantom = CardiacPhantom(7, "4CH")
        >>> labels = phantom.labels(phantom.phases(25))  # (25, 128, 128), pixels of 1.25 mm
    """

    def __init__(
        self,
        seed: int,
        view: str = "4CH",
        *,
        varied: bool = False,
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
        given = [each for each in (ejection_fraction, heart_rate, length, width, quality) if each is not None]
        if varied and given:
            raise ValueError(f"A varied cardiac phantom got the further arguments {given}; expected none.")
        _check("ejection_fraction", ejection_fraction, 0.1, 0.8)
        _check("heart_rate", heart_rate, 40, 130)
        _check("length", length, 60, 110)
        _check("width", width, 30, 65)
        self.seed, self.view = seed, view
        self.heart = (
            sample_varied_heart(seed, view)
            if varied
            else sample_heart(seed, view, ejection_fraction, heart_rate, length, width, quality)
        )

    @property
    def ejection_fraction(self) -> float:
        """Stroke volume over end-diastolic volume, in (0, 1)."""
        return self.heart.ejection_fraction

    @property
    def end_systole(self) -> float:
        """Phase of the smallest ventricle; the largest is at phases 0 and 1."""
        return self.heart.cycle.end_systole

    def phases(self, frames: int = 25, half_cycle: bool = False) -> np.ndarray:
        """Return evenly spaced phases `(T,)` from end diastole to the next one, or to end systole for half a cycle."""
        return np.linspace(0, self.end_systole if half_cycle else 1, frames)

    def ed_es_indices(self, phases: np.ndarray) -> tuple[int, int]:
        """Return the indices of the phases closest to end diastole (the first such) and to end systole."""
        contraction = self.heart.cycle.contraction(phases)
        return int(contraction.argmin()), int(contraction.argmax())

    def outlines(self, phases: np.ndarray) -> Outlines:
        """Return the outlines at phases `(T,)`."""
        return outlines(self.heart, np.asarray(phases, dtype=float))

    def ground_truth(self, phases: np.ndarray) -> dict[str, np.ndarray]:
        """Measure the outlines at phases `(T,)`; the result holds an array `(T,)` for each of `MEASUREMENTS`."""
        return measure_outlines(self.outlines(phases))

    def labels(self, phases: np.ndarray, shape: tuple[int, int] = SHAPE, spacing: float = SPACING) -> np.ndarray:
        """Return label maps `(T, H, W)`, uint8: 1 LV, 2 myocardium, 3 left atrium; `spacing` is in mm."""
        return label_maps(self.outlines(phases), shape, spacing)

    def images(self, phases: np.ndarray, shape: tuple[int, int] = SHAPE, spacing: float = SPACING) -> np.ndarray:
        """Return B-mode images `(T, H, W)`, uint8, on the grid of `labels`; speckle moves with the myocardium."""
        seed = [self.seed, VIEWS.index(self.view), 1]
        scanner = Scanner(self.outlines(np.zeros(1)), self.view, self.heart.quality, seed, shape, spacing)
        blood = np.rint(np.asarray(phases) * 1e6).astype(np.int64) * 7919  # blood differs between frames
        return scanner.images(self.outlines(phases), self.heart.cycle.opening(phases), blood)


def _check(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise ValueError(f"A cardiac phantom got {name} = {value}; expected {low} to {high}, or None to sample it.")
