"""Noise for images that a pipeline processes in batches: independent of the batch size, and drawn when it is needed.

Noise is drawn image by image, so the same generators give the same noise whatever the number of images in a batch.
Several published pipelines import this file from beside them; it is published with each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.utils.torch_utils import randn_tensor

PUBLISHED_AS = "meddiffusers_noise_v1"  # the file has the same name in a repository, so imports find it in both places
Generators = torch.Generator | list[torch.Generator] | None  # one for all images, one for each, or the global one


def check_generators(generator: Generators, num_images: int) -> None:
    """Raise a ValueError for a list of generators of another length than the number of images."""
    if isinstance(generator, list) and len(generator) != num_images:
        raise ValueError(f"Got {len(generator)} generators for {num_images} images. Give one for each image.")


def draw_noise(
    num_images: int, shape: Sequence[int], generator: Generators, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Draw unit noise image by image.

    Args:
        num_images: B.
        shape: Shape of the noise of one image.
        generator: One for all images, a list of one for each, or None.
        device: Device of the result.
        dtype: Type of the result.

    Returns:
        Noise, (B, *shape).

    Raises:
        ValueError: If a list of generators has another length.
    """
    check_generators(generator, num_images)
    generators = generator if isinstance(generator, list) else [generator] * num_images
    return torch.stack([randn_tensor(tuple(shape), each, device, dtype) for each in generators])


def reserve_noise(generator: Generators, num_images: int, shape: Sequence[int], dtype: torch.dtype) -> Generators:
    """Reserve noise that is drawn later, batch by batch, as if all of it were drawn now.

    Args:
        generator: One for all images, a list of one for each, or None.
        num_images: Number of all images.
        shape: Shape of the noise of one image.
        dtype: Type of the noise.

    Returns:
        For one generator a copy of it; the given one is advanced past the reserved noise. Otherwise what was given.
    """
    if not isinstance(generator, torch.Generator):
        return generator
    reserved = torch.Generator(generator.device)
    reserved.set_state(generator.get_state())
    for _ in range(num_images):
        torch.randn(tuple(shape), generator=generator, device=generator.device, dtype=dtype)
    return reserved
