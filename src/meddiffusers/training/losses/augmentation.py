"""Random augmentation of training images that keeps what they show.

All functions work on whole batches and take their random numbers from a `BatchRandom`, so that the result does not
depend on the number of processes. Intensities are in [0, 1], and 0 is background, which stays 0.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from meddiffusers.training.engine.randomness import BatchRandom

MAX_ROTATION, MAX_SCALING, MAX_SHIFT = math.radians(15), 0.15, 0.08  # radians; fraction; fraction of the field of view
MAX_LOG_GAIN, MAX_LOG_GAMMA, MAX_NOISE = 0.5, 0.5, 0.04  # of random_intensity; σ of the noise
MAX_CONTRAST_LOSS, MAX_LOG_BRIGHTNESS, MAX_BIAS_FIELD, MAX_RICIAN_NOISE = 0.4, 0.2, 0.35, 0.12  # of low quality
BIAS_FIELD_KNOTS = 4  # along each axis


def random_affine(image: Tensor, labels: Tensor, random: BatchRandom) -> tuple[Tensor, Tensor]:
    """Rotate, scale, shift and flip images together with their label maps.

    Args:
        image: Images (B, C, H, W), resampled bilinearly.
        labels: Label maps (B, R, H, W), resampled with nearest neighbours.
        random: Source of random numbers.
    """
    count = len(image)
    uniform = 2 * random.rand(count, 5) - 1
    angle, scale = MAX_ROTATION * uniform[:, 0], 1 + MAX_SCALING * uniform[:, 1]
    flip = torch.where(uniform[:, 2] < 0, -1.0, 1.0)
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    rows = [
        torch.stack([flip * cosine, -sine, 2 * MAX_SHIFT * uniform[:, 3]], dim=1),
        torch.stack([flip * sine, cosine, 2 * MAX_SHIFT * uniform[:, 4]], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), [count, 1, *image.shape[2:]], align_corners=False)
    resampled = F.grid_sample(image, grid, mode="bilinear", align_corners=False)
    return resampled, F.grid_sample(labels.float(), grid, mode="nearest", align_corners=False).to(labels.dtype)


def random_flip(image: Tensor, labels: Tensor, random: BatchRandom) -> tuple[Tensor, Tensor]:
    """Flip half of the images (B, C, H, W) and their label maps (B, R, H, W) from left to right.

    This is the one augmentation that keeps the intensities and shapes that a generative model is to learn.
    """
    flip = (random.rand(len(image), 1, 1, 1) < 0.5).to(image.device)
    return torch.where(flip, image.flip(-1), image), torch.where(flip, labels.flip(-1), labels)


def random_crop(image: Tensor, side: int, random: BatchRandom) -> Tensor:
    """Crop a random square or cube with edges of `side` from images or volumes (B, C, …); shorter axes stay whole."""
    sides = image.shape[2:]
    starts = (random.rand(len(image), len(sides)) * torch.tensor([max(each - side, 0) + 1 for each in sides])).long()
    crops = [
        each[(slice(None), *(slice(start, start + side) for start in corner))]
        for each, corner in zip(image, starts.tolist(), strict=True)
    ]
    return torch.stack(crops)


def random_intensity(image: Tensor, random: BatchRandom) -> Tensor:
    """Change gain and gamma of each channel of images (B, C, H, W), and add a little Gaussian noise."""
    count, channels = image.shape[:2]
    uniform = (2 * random.rand(count, channels, 3) - 1)[..., None, None]
    gain, gamma = (MAX_LOG_GAIN * uniform[:, :, 0]).exp(), (MAX_LOG_GAMMA * uniform[:, :, 1]).exp()
    noise = MAX_NOISE * uniform[:, :, 2].abs()
    changed = gain * image.clamp_min(1e-6) ** gamma + noise * random.randn_like(image)
    return torch.where(image > 0, changed.clamp(0, 1), image)


def simulate_low_quality(image: Tensor, random: BatchRandom) -> Tensor:
    """Images (B, 1, H, W) with less contrast, another brightness, a bias field and Rician noise."""
    count, inside = len(image), image > 0
    contrast, brightness, shading, grain = random.rand(count, 4, 1, 1, 1).to(image).unbind(dim=1)
    mean = image.sum(dim=(1, 2, 3), keepdim=True) / inside.sum(dim=(1, 2, 3), keepdim=True).clamp_min(1)
    knots = random.randn(count, 1, BIAS_FIELD_KNOTS, BIAS_FIELD_KNOTS).to(image)
    bias_field = F.interpolate(knots, image.shape[2:], mode="bicubic", align_corners=True)
    signal = mean + (1 - MAX_CONTRAST_LOSS * contrast) * (image - mean)
    signal = signal * (MAX_BIAS_FIELD * shading * bias_field + MAX_LOG_BRIGHTNESS * (2 * brightness - 1)).exp()
    real, imaginary = (MAX_RICIAN_NOISE * grain * mean * random.randn_like(image) for _ in range(2))
    return torch.where(inside, torch.hypot(signal + real, imaginary).clamp(0, 1), image)


def drop_modalities(image: Tensor, probability: float, random: BatchRandom) -> Tensor:
    """With this probability, keep only 1 to C random channels of an image (B, C, H, W) and set the others to 0."""
    count, channels = image.shape[:2]
    rank = random.rand(count, channels).argsort(dim=1).argsort(dim=1)
    kept = torch.where(random.rand(count, 1) < probability, random.randint(1, channels + 1, (count, 1)), channels)
    return image * (rank < kept)[..., None, None]
