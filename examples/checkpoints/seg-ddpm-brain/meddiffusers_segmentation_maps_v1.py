"""Test-time augmentation and the maps of a segmentation ensemble.

A published pipeline imports this file from beside it; it is published with it.

| here | shape |
|---|---|
| fractions of each label, background first, of M members | (B, M, L, H, W) |
| probability of each label | (B, L, H, W) |
"""

from __future__ import annotations

import numpy as np
import PIL.Image
import torch

PUBLISHED_AS = "meddiffusers_segmentation_maps_v1"  # the file has the same name in a repository
TTA_VIEWS = ((False, 0), (True, 0), (False, 1), (True, 1))  # mirrored; shift in pixels, down and to the right


def apply_tta(images: torch.Tensor, view: tuple[bool, int]) -> torch.Tensor:
    """Return a view of images (…, H, W); pixels shifted over an edge enter at the other, where images are empty."""
    mirrored, shift = view
    images = images.roll((shift, shift), dims=(-2, -1)) if shift else images
    return images.flip(-1) if mirrored else images


def invert_tta(maps: torch.Tensor, view: tuple[bool, int]) -> torch.Tensor:
    """Return maps (…, H, W) of a view in the orientation of the images."""
    mirrored, shift = view
    maps = maps.flip(-1) if mirrored else maps
    return maps.roll((-shift, -shift), dims=(-2, -1)) if shift else maps


def summarise(fractions: torch.Tensor, probability: torch.Tensor, threshold: float) -> dict[str, torch.Tensor]:
    """Mask, samples and maps of a batch, on the CPU, from the members' fractions and the probability."""
    maps = {
        "mask": assign_labels(probability, threshold),
        "probability": probability,
        "variance": 0.5 * (fractions - fractions.mean(dim=1, keepdim=True)).square().mean(dim=1).sum(dim=1),
        "entropy": -(probability * probability.clamp_min(1e-12).log()).sum(dim=1),
        "samples": assign_labels(fractions, threshold),
    }
    return {name: tensor.cpu() for name, tensor in maps.items()}


def label_probability(logits: torch.Tensor) -> torch.Tensor:
    """Probability (B, L, H, W) of the labels from logits (B, K, H, W)."""
    logits = logits.float()
    return (torch.cat([-logits, logits], dim=1) / 2 if logits.shape[1] == 1 else logits).softmax(dim=1)


def assign_labels(probability: torch.Tensor, threshold: float, axis: int = -3) -> torch.Tensor:
    """Label ids of probabilities along an axis: where 1 − p_0 > threshold the most likely label but 0, otherwise 0."""
    # max rather than argmax, which is slow along an axis that is not the last
    likeliest = probability.narrow(axis, 1, probability.shape[axis] - 1).max(dim=axis).indices + 1
    return torch.where(1 - probability.select(axis, 0) > threshold, likeliest, 0).byte()


def palette_image(labels: np.ndarray) -> PIL.Image.Image:
    """Convert a label map (H, W) to a PIL image that keeps the ids and shows them in colours."""
    image = PIL.Image.fromarray(labels)
    image.putpalette([0, 0, 0, 230, 75, 60, 70, 130, 230, 250, 200, 60, 90, 200, 120, 180, 90, 200, 80, 200, 220])
    return image
