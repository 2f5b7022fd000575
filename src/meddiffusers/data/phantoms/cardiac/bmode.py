"""Ultrasound images of a heart: speckle that moves with the tissue, borders, shadows, haze, in a fan of beams.

Scatterers are complex noise in the coordinates of the tissue at end diastole; every frame fetches each sample's
scatterer from where that tissue lay, weighs it by its echogenicity and blurs it by the beam (fully developed speckle).
Blood has scatterers of its own in every frame. The magnitude is compressed logarithmically.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from meddiffusers.data.phantoms.cardiac.echogenicity import BLOOD, echogenicity
from meddiffusers.data.phantoms.cardiac.outlines import Outlines, polygon_area
from meddiffusers.data.phantoms.cardiac.sector import BEAMS, RANGES, Sector

_BEAM = (0.9, 1.3)  # standard deviation of the blur: samples along the beam, beams across
_GRAIN, _TILE = 0.5, 512  # mm between scatterers; how many of them before they repeat
_CLUSTER = 1.3  # grains over which they are alike, so that wherever samples fall between them they see the same tissue
_UNEVENNESS, _LUMP = 4.5, 2.5  # dB by which tissue differs over so many mm
_DYNAMIC_RANGE = 58.0  # dB from black to white
_REACH = 48.0  # mm from the middle of the ventricle over which tissue still moves with it
_SHADOW = {"Good": 5.0, "Medium": 11.0, "Poor": 18.0}  # dB that the lateral wall loses
_HAZE = {"Good": -27.0, "Medium": -22.0, "Poor": -17.0}  # dB of reverberation near the probe

Axes = tuple[np.ndarray, np.ndarray]


class Scanner:
    """Takes images of one heart: (H, W) of pixels with edges of `spacing` mm, as deep as the image is high.

    rest: the outlines at end diastole, one frame; view as of `CardiacPhantom`; one seed, one texture and one setting.
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
        """uint8 (F, H, W); opening: of the mitral valve, (F,) in [0, 1]; blood_seeds: (F,) integers, one a frame."""
        frames = zip(lines.cavity, lines.epicardium, lines.atrium, opening, _axes(lines), blood_seeds, strict=True)
        return np.stack([self._image(*frame) for frame in frames])

    def _image(
        self, cavity: np.ndarray, epicardium: np.ndarray, atrium: np.ndarray, opening: float, axes: Axes, blood: int
    ) -> np.ndarray:
        level = echogenicity(self.sector, cavity, epicardium, atrium, opening, self.view == "4CH")
        scatterers = np.where(level > BLOOD + 2, self._tissue(axes), np.roll(self.scatterers, blood)[:RANGES, :BEAMS])
        signal = _blurred(scatterers * 10 ** ((level + self.gain) / 20), _BEAM) + self.haze
        decibels = 20 * np.log10(np.abs(signal) + 1e-4)
        brightness = np.clip(1 + decibels / _DYNAMIC_RANGE, 0, 1)
        return np.rint(255 * self.sector.image(brightness, self.grid, self.spacing)).astype(np.uint8)

    def _tissue(self, axes: Axes) -> np.ndarray:
        """Each sample's scatterer: the heart's neighbourhood moves with it, what is far stays."""
        points = self.sector.points
        (apex, frame), (rest_apex, rest_frame) = axes, self.rest
        linear = (rest_frame @ np.linalg.inv(frame)).astype(np.float32)
        moved = (points - apex.astype(np.float32)) @ linear.T + rest_apex.astype(np.float32)
        distance = ((points - (apex - frame[:, 1] / 2).astype(np.float32)) ** 2).sum(axis=-1, keepdims=True)
        weight = np.exp(-((distance / _REACH**2) ** 2))
        column, row = np.moveaxis(((points + weight * (moved - points)) / _GRAIN).astype(np.int32) % _TILE, -1, 0)
        return self.scatterers[row, column]


def _axes(lines: Outlines) -> list[Axes]:
    """Of each frame the apex (2,) and the matrix (2, 2) with the mean short axis and the long axis as columns, mm."""
    apex = lines.cavity[:, lines.cavity.shape[1] // 2]
    long = apex - (lines.cavity[:, 0] + lines.cavity[:, -1]) / 2
    square = (long**2).sum(axis=-1, keepdims=True)
    short = np.stack([-long[:, 1], long[:, 0]], axis=-1) * polygon_area(lines.cavity)[:, None] / square
    return list(zip(apex, np.stack([short, long], axis=-1), strict=True))


def _speckle(rng: np.random.Generator, shape: tuple[int, int], blur: float | tuple[float, float]) -> np.ndarray:
    """Complex noise of mean power 1, blurred."""
    noise = rng.standard_normal(shape, dtype=np.float32) + 1j * rng.standard_normal(shape, dtype=np.float32)
    noise = _blurred(noise, blur)
    return noise / np.sqrt(np.mean(np.abs(noise) ** 2))


def _blurred(signal: np.ndarray, blur: float | tuple[float, float]) -> np.ndarray:
    real, imaginary = (
        ndimage.gaussian_filter(part, blur, mode="wrap", truncate=3) for part in (signal.real, signal.imag)
    )
    return real + 1j * imaginary


def _gain(rng: np.random.Generator, sector: Sector, rest: Outlines, shadow: float) -> np.ndarray:
    """dB (RANGES, BEAMS): operator's gain, uneven tissue, a shadow over the lateral wall, weak outer beams."""
    overall = rng.uniform(-3, 3)
    patches = ndimage.gaussian_filter(rng.standard_normal((RANGES, BEAMS)).astype(np.float32), (26, 14), mode="wrap")
    halfway = rest.cavity.shape[1] * 5 // 6  # down the right wall
    wall = rest.cavity[0, halfway] + (5, 0)
    direction = np.arctan2(*wall) + rng.normal(0, 0.05)
    beams = np.exp(-(((sector.angle - direction) / rng.uniform(0.08, 0.16)) ** 2))
    below = 1 / (1 + np.exp(-(sector.range - rng.uniform(25, 60)) / 8))
    edge = 9 * (np.abs(sector.angle) / abs(sector.angle[0])) ** 8
    return overall + 4 * patches / patches.std() - shadow * beams * below - edge - 0.04 * sector.range
