"""Checks, test-time augmentation and maps of a segmentation ensemble.

A published pipeline imports this file from beside it; it is published with it.

| here | shape |
|---|---|
| fractions of each label, background first, of M members | (B, M, L, H, W) |
| probability of each label | (B, L, H, W) |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch

from .meddiffusers_checks_v1 import check_numbers
from .meddiffusers_noise_v1 import alphas_cumprod

PUBLISHED_AS = "meddiffusers_segmentation_maps_v1"  # the file has the same name in a repository
TTA_VIEWS = ((False, 0), (True, 0), (False, 1), (True, 1))  # mirrored; shift in pixels, down and to the right


def check_labels(labels: Mapping[str, str]) -> None:
    """Raise a ValueError if the ids of the labels are not 0 (the background), 1 and so on."""
    if len(labels) < 2 or set(labels) != {str(index) for index in range(len(labels))}:
        raise ValueError(
            f"id2label has the ids {', '.join(labels)}; expected 0 (the background), 1 and so on, at least two."
        )
    names = [name for name in labels.values() if isinstance(name, str)]
    if len(set(names)) < len(names):
        raise ValueError(f"id2label has the names {', '.join(names)}; expected different ones.")


def check_noise_schedule(unet: Any, noise_schedule: Mapping[str, Any], mask_range: tuple[float, float]) -> None:
    """Raise a ValueError if noise or masks are not those that a unet with an image encoder requires."""
    kind = noise_schedule["prediction_type"]
    if kind != "sample" or mask_range != (-1, 1):
        raise ValueError(
            f"A unet with an image encoder predicts x_0 of masks in (-1, 1); got a scheduler with "
            f"prediction_type={kind!r} and mask_range={mask_range}. Create the scheduler with "
            "prediction_type='sample', or from the configuration of the one that the unet came with."
        )
    noise = alphas_cumprod(noise_schedule)
    if noise.shape != unet.alphas_cumprod.shape or not torch.allclose(noise, unet.alphas_cumprod):
        raise ValueError(
            "A unet with an image encoder derives the noise level from the timestep; got a scheduler with other "
            "betas. Create it from the configuration of the one that the unet came with."
        )


def check_probability_from(source: str, image_encoder: bool) -> None:
    """Raise a ValueError if the probability is to come from what the unet does not have."""
    if source not in ("prior", "samples"):
        raise ValueError(f"probability_from={source!r}; expected 'prior' or 'samples'.")
    if source == "prior" and not image_encoder:
        raise ValueError(
            "probability_from='prior', but this unet has no image encoder that computes it; expected 'samples'."
        )


def check_threshold(threshold: Any) -> None:
    """Raise a ValueError if a threshold is no probability below 1."""
    check_numbers(threshold=threshold)
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold={threshold}; expected a probability, at least 0 and less than 1.")


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


def masks_to_fractions(masks: torch.Tensor, mask_range: tuple[float, float]) -> torch.Tensor:
    """Convert masks (B, M, K, H, W) in `mask_range` to fractions (B, M, L, H, W) of the labels, which sum to 1."""
    low, high = mask_range
    fractions = ((masks.float() - low) / (high - low)).clamp(0, 1)
    if masks.shape[2] == 1:
        return torch.cat([1 - fractions, fractions], dim=2)
    total = fractions.sum(dim=2, keepdim=True)
    return torch.where(total > 0, fractions / total, 1 / masks.shape[2])


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


def check_channels(unet: Any, modalities: Sequence[str], num_labels: int, mask_channels: int) -> None:
    """Raise a ValueError if a unet does not take the channels of the modalities and of a noisy mask."""
    config = unet.config
    own = (
        (config["image_channels"], config["mask_channels"])
        if hasattr(unet, "encode_image")
        else (config["in_channels"],)
    )
    if sum(own) != len(modalities) + mask_channels:
        raise ValueError(
            f"The unet takes {sum(own)} channels of image and mask; {len(modalities)} modalities "
            f"({', '.join(modalities)}) and {num_labels} labels make {len(modalities)} + {mask_channels}. Give the "
            "modalities and the id2label that it was trained with."
        )


def convert_maps(maps: Mapping[str, torch.Tensor], output_type: str) -> dict[str, Any]:
    """Convert the maps of `summarise` to the fields of the pipeline's output, as "pt", "np", "pil" or "latent"."""
    fields: dict[str, Any] = dict(maps)
    if output_type == "latent":
        fields["mask"] = fields.pop("latents")
    elif output_type != "pt":
        fields = {name: tensor.numpy() for name, tensor in maps.items()}
    if output_type == "pil":
        fields["samples"] = [[palette_image(member) for member in image] for image in fields["samples"]]
        fields["mask"] = [palette_image(mask) for mask in fields["mask"]]
    uncertainty = {name: fields.pop(name) for name in ("variance", "entropy")}
    return {**fields, "uncertainty": uncertainty}


def palette_image(labels: np.ndarray) -> PIL.Image.Image:
    """Convert a label map (H, W) to a PIL image that keeps the ids and shows them in colours."""
    image = PIL.Image.fromarray(labels)
    image.putpalette([0, 0, 0, 230, 75, 60, 70, 130, 230, 250, 200, 60, 90, 200, 120, 180, 90, 200, 80, 200, 220])
    return image
