"""B-mode ultrasound images of a heart: speckle that moves with the tissue, borders, shadows and haze in a sector.

Scatterers are complex noise in the coordinates of the tissue at end diastole. In each frame, a sample takes the
scatterer of its tissue, weights it by the echogenicity and blurs it by the beam (fully developed speckle). Blood has
other scatterers in each frame. The magnitude is log-compressed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from meddiffusers.data.phantoms.cardiac.echogenicity import BLOOD, echogenicity
from meddiffusers.data.phantoms.cardiac.outlines import Outlines, polygon_area
from meddiffusers.data.phantoms.cardiac.sector import BEAMS, RANGES, Sector

_BEAM = (0.9, 1.3)  # standard deviation of the point spread function: in samples along, in beams across
_GRAIN, _TILE = 0.5, 512  # mm between scatterers; period of their pattern in scatterers
_CLUSTER = 1.3  # correlation of scatterers, in grains, so that samples between them show the same tissue
_UNEVENNESS, _LUMP = 4.5, 2.5  # variation of the tissue in dB, and its scale in mm
_DYNAMIC_RANGE = 58.0  # dB from black to white
_REACH = 48.0  # mm from the middle of the ventricle within which tissue moves with it
_SHADOW = {"Good": 5.0, "Medium": 11.0, "Poor": 18.0}  # attenuation of the lateral wall in dB
_HAZE = {"Good": -27.0, "Medium": -22.0, "Poor": -17.0}  # reverberation near the probe in dB

Axes = tuple[np.ndarray, np.ndarray]


class Scanner:
    """Simulate ultrasound images of one heart.

    Args:
        rest: Outlines at end diastole, one frame.
        view: "4CH" or "2CH".
        quality: Image quality, "Good", "Medium" or "Poor".
        seed: Seed of the speckle and the scanner's settings.
        shape: `(H, W)` of the images, whose height covers the depth of the sector.
        spacing: Edge length of a pixel in mm.
    """

    def __init__(
        self, rest: Outlines, view: str, quality: str, seed: Sequence[int], shape: tuple[int, int], spacing: float
    ) -> None:
        rng = np.random.default_rng(seed)
        self.view, self.spacing = view, spacing
        self.sector = Sector(shape[0] * spacing)
        self.grid = self.sector.image_grid(shape, spacing)
        self.rest = _axes(rest)[0]
        coarse = rng.standard_normal((_TILE, _TILE), dtype=np.float32)
        coarse = ndimage.gaussian_filter(coarse, _LUMP / _GRAIN, mode="wrap")
        self.scatterers = _speckle(rng, (_TILE, _TILE), _CLUSTER) * 10 ** (_UNEVENNESS * coarse / coarse.std() / 20)
        self.gain = _gain(rng, self.sector, rest, _SHADOW[quality])
        haze = _HAZE[quality] - 0.8 * np.clip(self.sector.range - 8, 0, None)
        self.haze = _speckle(rng, (RANGES, BEAMS), _BEAM) * 10 ** (haze / 20)

    def images(self, lines: Outlines, opening: np.ndarray, blood_seeds: np.ndarray) -> np.ndarray:
        """Simulate a sequence of images.

        Args:
            lines: Outlines in T phases.
            opening: Opening of the mitral valve `(T,)`, in [0, 1].
            blood_seeds: Integers `(T,)` that select the scatterers of the blood.

        Returns:
            Images `(T, H, W)`, uint8.
        """
        frames = zip(lines.endocardium, lines.epicardium, lines.atrium, opening, _axes(lines), blood_seeds, strict=True)
        return np.stack([self._image(*frame) for frame in frames])

    def _image(
        self,
        endocardium: np.ndarray,
        epicardium: np.ndarray,
        atrium: np.ndarray,
        opening: float,
        axes: Axes,
        blood: int,
    ) -> np.ndarray:
        level = echogenicity(self.sector, endocardium, epicardium, atrium, opening, self.view == "4CH")
        scatterers = np.where(level > BLOOD + 2, self._tissue(axes), np.roll(self.scatterers, blood)[:RANGES, :BEAMS])
        signal = _blur(scatterers * 10 ** ((level + self.gain) / 20), _BEAM) + self.haze
        decibels = 20 * np.log10(np.abs(signal) + 1e-4)
        brightness = np.clip(1 + decibels / _DYNAMIC_RANGE, 0, 1)
        return np.rint(255 * self.sector.image(brightness, self.grid, self.spacing)).astype(np.uint8)

    def _tissue(self, axes: Axes) -> np.ndarray:
        """Scatterer of each sample: tissue near the ventricle moves with it, distant tissue is at rest."""
        points = self.sector.points
        (apex, frame), (rest_apex, rest_frame) = axes, self.rest
        linear = (rest_frame @ np.linalg.inv(frame)).astype(np.float32)
        moved = (points - apex.astype(np.float32)) @ linear.T + rest_apex.astype(np.float32)
        distance = ((points - (apex - frame[:, 1] / 2).astype(np.float32)) ** 2).sum(axis=-1, keepdims=True)
        weight = np.exp(-((distance / _REACH**2) ** 2))
        column, row = np.moveaxis(((points + weight * (moved - points)) / _GRAIN).astype(np.int32) % _TILE, -1, 0)
        return self.scatterers[row, column]


def _axes(lines: Outlines) -> list[Axes]:
    """Apex (2,) of each frame, and matrix (2, 2) with the mean short axis and the long axis as columns, in mm."""
    apex = lines.endocardium[:, lines.endocardium.shape[1] // 2]
    long = apex - (lines.endocardium[:, 0] + lines.endocardium[:, -1]) / 2
    square = (long**2).sum(axis=-1, keepdims=True)
    short = np.stack([-long[:, 1], long[:, 0]], axis=-1) * polygon_area(lines.endocardium)[:, None] / square
    return list(zip(apex, np.stack([short, long], axis=-1), strict=True))


def _speckle(rng: np.random.Generator, shape: tuple[int, int], blur: float | tuple[float, float]) -> np.ndarray:
    """Blurred complex noise of mean power 1."""
    noise = rng.standard_normal(shape, dtype=np.float32) + 1j * rng.standard_normal(shape, dtype=np.float32)
    noise = _blur(noise, blur)
    return noise / np.sqrt(np.mean(np.abs(noise) ** 2))


def _blur(signal: np.ndarray, blur: float | tuple[float, float]) -> np.ndarray:
    real, imaginary = (
        ndimage.gaussian_filter(part, blur, mode="wrap", truncate=3) for part in (signal.real, signal.imag)
    )
    return real + 1j * imaginary


def _gain(rng: np.random.Generator, sector: Sector, rest: Outlines, shadow: float) -> np.ndarray:
    """Gain (RANGES, BEAMS) in dB: overall gain, uneven tissue, shadow over the lateral wall, weak outer beams."""
    overall = rng.uniform(-3, 3)
    patches = ndimage.gaussian_filter(rng.standard_normal((RANGES, BEAMS)).astype(np.float32), (26, 14), mode="wrap")
    halfway = rest.endocardium.shape[1] * 5 // 6  # down the right wall
    wall = rest.endocardium[0, halfway] + (5, 0)
    direction = np.arctan2(*wall) + rng.normal(0, 0.05)
    beams = np.exp(-(((sector.angle - direction) / rng.uniform(0.08, 0.16)) ** 2))
    below = 1 / (1 + np.exp(-(sector.range - rng.uniform(25, 60)) / 8))
    edge = 9 * (np.abs(sector.angle) / abs(sector.angle[0])) ** 8
    return overall + 4 * patches / patches.std() - shadow * beams * below - edge - 0.04 * sector.range
