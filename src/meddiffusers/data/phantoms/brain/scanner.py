"""The scanner: how one acquisition of one person departs from the ideal contrast.

    image = | (mixture + texture) · exp(b · bias) + σ (n₁ + i n₂) | · gain        n₁, n₂ standard normal

A magnitude image has Rician noise (Gudbjartsson and Patz, 1995). Each modality is moved against the others by a
fraction of a millimetre, since people do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from meddiffusers.data.phantoms.brain.anatomy import PARTS
from meddiffusers.data.phantoms.brain.contrasts import INTENSITIES, MODALITIES
from meddiffusers.data.phantoms.brain.smooth_field import Grid, SmoothField

FULL_SCALE = 1000  # stored integer of intensity 1 at gain 1


@dataclass(frozen=True)
class Acquisition:
    """intensities: (18,) of PARTS; texture: weights of two fields; shift: mm along x, y, z; noise: σ at 1 mm³."""

    intensities: np.ndarray
    bias: SmoothField
    bias_strength: float
    texture: np.ndarray
    shift: np.ndarray
    noise: float
    gain: float

    def shaded(self, mixture: np.ndarray, grid: Grid) -> np.ndarray:
        """The mixture (X, Y, Z) under the uneven field of the coil."""
        return mixture * np.exp(np.float32(self.bias_strength) * self.bias(grid)[0])

    def moved(self, image: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
        """The image (X, Y, Z) where the head lay for this modality; along an axis of one voxel nothing moves."""
        steps = [
            mm / edge if size > 1 else 0.0 for mm, edge, size in zip(self.shift, spacing, image.shape, strict=True)
        ]
        if not any(steps):
            return image
        return ndimage.shift(image, steps, order=1, mode="nearest", prefilter=False)

    def received(self, image: np.ndarray, voxel_volume: float, rng: np.random.Generator) -> np.ndarray:
        """The image as int16, with noise; σ falls with the volume of the voxel, mm³, here by its square root."""
        sigma = np.float32(self.noise / np.sqrt(max(voxel_volume, 0.3)))
        real, imaginary = sigma * rng.standard_normal((2, *image.shape), dtype=np.float32)
        real += image
        magnitude = np.sqrt(real * real + imaginary * imaginary)  # faster than hypot, and far from overflow
        return np.minimum(magnitude * np.float32(FULL_SCALE * self.gain) + np.float32(0.5), 32767).astype(np.int16)


def random_acquisitions(rng: np.random.Generator) -> dict[str, Acquisition]:
    """One person's visit: an acquisition for each of MODALITIES, the first without shift."""
    session = rng.uniform(0.7, 1.4)  # coil and distance
    return {
        name: Acquisition(
            intensities=INTENSITIES[name] * (1 + 0.04 * rng.standard_normal(len(PARTS), dtype=np.float32)),
            bias=SmoothField(rng, 60),
            bias_strength=float(rng.uniform(0.02, 0.09)),
            texture=0.6 * rng.standard_normal(2),
            shift=0.3 * rng.standard_normal(3) * (index > 0),
            noise=float(session * rng.uniform(0.01, 0.025)),
            gain=float(rng.uniform(0.7, 1.3)),
        )
        for index, name in enumerate(MODALITIES)
    }
