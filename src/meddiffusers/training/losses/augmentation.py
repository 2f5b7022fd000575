"""Random changes of training images that leave their meaning: place, contrast, and modalities that are missing.

All draw from a `BatchRandom`, so that they do not depend on the number of processes, and work on whole batches.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from meddiffusers.training.engine.randomness import BatchRandom

TURN, SCALE, SHIFT = math.radians(15), 0.15, 0.08  # radians; part of the size; part of the field of view
GAIN, GAMMA, NOISE = 0.5, 0.5, 0.04  # largest changes: of the log of the gain and the exponent; σ of the noise
WEAKENED, BRIGHTER, SHADED, GRAINY = 0.4, 0.2, 0.35, 0.12  # largest changes of a poor scanner's images
SHADES = 4  # knots a side of the shade


def moved(image: Tensor, labels: Tensor, random: BatchRandom) -> tuple[Tensor, Tensor]:
    """Image (B, C, H, W), bilinear, and label maps (B, R, H, W), nearest: mirrored, turned, scaled and shifted."""
    count = len(image)
    drawn = 2 * random.rand(count, 5) - 1
    angle, scale, mirror = TURN * drawn[:, 0], 1 + SCALE * drawn[:, 1], torch.where(drawn[:, 2] < 0, -1.0, 1.0)
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    rows = [
        torch.stack([mirror * cosine, -sine, 2 * SHIFT * drawn[:, 3]], dim=1),
        torch.stack([mirror * sine, cosine, 2 * SHIFT * drawn[:, 4]], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), [count, 1, *image.shape[2:]], align_corners=False)
    turned = F.grid_sample(image, grid, mode="bilinear", align_corners=False)
    return turned, F.grid_sample(labels.float(), grid, mode="nearest", align_corners=False).to(labels.dtype)


def random_intensity(image: Tensor, random: BatchRandom) -> Tensor:
    """Each channel of (B, C, H, W) in [0, 1] with another gain, gamma and a little noise; 0 stays 0."""
    count, channels = image.shape[:2]
    drawn = (2 * random.rand(count, channels, 3) - 1)[..., None, None]
    gain, gamma, noise = (GAIN * drawn[:, :, 0]).exp(), (GAMMA * drawn[:, :, 1]).exp(), NOISE * drawn[:, :, 2].abs()
    bright = gain * image.clamp_min(1e-6) ** gamma + noise * random.randn_like(image)
    return torch.where(image > 0, bright.clamp(0, 1), image)


def simulate_low_quality(image: Tensor, random: BatchRandom) -> Tensor:
    """Images (B, 1, H, W) in [0, 1] with less contrast, another gain, a smooth shade and Rician noise; 0 stays 0."""
    count, inside = len(image), image > 0
    weak, gain, dark, grain = random.rand(count, 4, 1, 1, 1).to(image).unbind(dim=1)
    level = image.sum(dim=(1, 2, 3), keepdim=True) / inside.sum(dim=(1, 2, 3), keepdim=True).clamp_min(1)
    knots = random.randn(count, 1, SHADES, SHADES).to(image)
    shade = F.interpolate(knots, image.shape[2:], mode="bicubic", align_corners=True)
    signal = level + (1 - WEAKENED * weak) * (image - level)
    signal = signal * (SHADED * dark * shade + BRIGHTER * (2 * gain - 1)).exp()
    real, imaginary = (GRAINY * grain * level * random.randn_like(image) for _ in range(2))
    return torch.where(inside, torch.hypot(signal + real, imaginary).clamp(0, 1), image)


def drop_modalities(image: Tensor, probability: float, random: BatchRandom) -> Tensor:
    """Of a part of the images (B, C, H, W), drawn with this probability, only 1 to C channels stay; others are 0."""
    count, channels = image.shape[:2]
    rank = random.rand(count, channels).argsort(dim=1).argsort(dim=1)
    kept = torch.where(random.rand(count, 1) < probability, random.randint(1, channels + 1, (count, 1)), channels)
    return image * (rank < kept)[..., None, None]


def mirrored(image: Tensor, labels: Tensor, random: BatchRandom) -> tuple[Tensor, Tensor]:
    """Half of the images (B, C, H, W) with their label maps (B, R, H, W), drawn at random, with left and right changed.

    Of all changes the one that leaves the intensities and shapes that a generative model is to learn.
    """
    turned = (random.rand(len(image), 1, 1, 1) < 0.5).to(image.device)
    return torch.where(turned, image.flip(-1), image), torch.where(turned, labels.flip(-1), labels)


def cropped(image: Tensor, side: int, random: BatchRandom) -> Tensor:
    """Of each image or volume (B, C, …) a square or cube of `side`, at random; a shorter axis stays whole."""
    sides = image.shape[2:]
    starts = (random.rand(len(image), len(sides)) * torch.tensor([max(each - side, 0) + 1 for each in sides])).long()
    parts = [
        each[(slice(None), *(slice(start, start + side) for start in corner))]
        for each, corner in zip(image, starts.tolist(), strict=True)
    ]
    return torch.stack(parts)
