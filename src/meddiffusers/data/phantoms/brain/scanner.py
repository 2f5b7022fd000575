"""Acquisition model: bias field, motion between modalities, Rician noise and gain.

    image = | (mixture + texture) · exp(b · bias) + σ (n₁ + i n₂) | · gain        n₁, n₂ standard normal

A magnitude image has Rician noise (Gudbjartsson and Patz, 1995). Modalities are misaligned by a fraction of a
millimetre, as by the subject's motion between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from meddiffusers.data.phantoms.brain.anatomy import PARTS
from meddiffusers.data.phantoms.brain.contrasts import INTENSITIES, MODALITIES
from meddiffusers.data.phantoms.brain.smooth_field import Grid, SmoothField

FULL_SCALE = 1000  # stored integer for intensity 1 at gain 1


@dataclass(frozen=True)
class Acquisition:
    """Parameters of one acquisition.

    Attributes:
        intensities: (18,) in the order of `PARTS`.
        bias: smooth field, the logarithm of the bias field up to its strength.
        bias_strength: b of the equation above.
        texture: (2,) weights of the texture fields.
        shift: (3,) mm along x, y, z.
        noise: σ of voxels of 1 mm³.
        gain: factor on the stored values.
    """

    intensities: np.ndarray
    bias: SmoothField
    bias_strength: float
    texture: np.ndarray
    shift: np.ndarray
    noise: float
    gain: float

    def apply_bias_field(self, mixture: np.ndarray, grid: Grid) -> np.ndarray:
        """Multiply the image (X, Y, Z) by the bias field of the coil."""
        return mixture * np.exp(np.float32(self.bias_strength) * self.bias(grid)[0])

    def apply_shift(self, image: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
        """Shift the image (X, Y, Z) by the misalignment of this modality; axes of one voxel are not shifted."""
        steps = [
            mm / edge if size > 1 else 0.0 for mm, edge, size in zip(self.shift, spacing, image.shape, strict=True)
        ]
        if not any(steps):
            return image
        return ndimage.shift(image, steps, order=1, mode="nearest", prefilter=False)

    def add_noise(self, image: np.ndarray, voxel_volume: float, rng: np.random.Generator) -> np.ndarray:
        """Add Rician noise and return int16; σ is proportional to 1 / √voxel_volume, with the volume in mm³."""
        sigma = np.float32(self.noise / np.sqrt(max(voxel_volume, 0.3)))
        real, imaginary = sigma * rng.standard_normal((2, *image.shape), dtype=np.float32)
        real += image
        magnitude = np.sqrt(real * real + imaginary * imaginary)  # faster than np.hypot; values are far from overflow
        return np.minimum(magnitude * np.float32(FULL_SCALE * self.gain) + np.float32(0.5), 32767).astype(np.int16)


def random_acquisitions(rng: np.random.Generator) -> dict[str, Acquisition]:
    """Sample one session: an acquisition for each of `MODALITIES`, the first without shift."""
    session = rng.uniform(0.7, 1.4)  # noise level of the session
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
