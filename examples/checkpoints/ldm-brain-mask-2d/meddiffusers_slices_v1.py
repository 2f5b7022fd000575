"""Input of slice-wise pipelines, images of any type or the scans of a subject, and noise for images in batches.

Noise is drawn image by image and when it is needed, so it does not depend on the number of images in a batch. Several
published pipelines import this file from beside them; it is published with each.

| here | shape |
|---|---|
| images | (B, C, H, W) float32 in [0, 1], the channels in the order of `modalities` |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers.utils.torch_utils import randn_tensor

from .meddiffusers_checks_v1 import check_generators

PUBLISHED_AS = "meddiffusers_slices_v1"  # the file has the same name in a repository, so imports find it in both places
TOLERANCE = 1e-3  # by which intensities may leave [0, 1]
Generators = torch.Generator | list[torch.Generator] | None  # one for all images, one for each, or the global one


def is_subject(image: Any) -> bool:
    """Return whether the input is scans, or paths of scans, rather than images."""
    if isinstance(image, (str, PathLike)):
        return True
    if isinstance(image, Mapping):
        return any(is_subject(scan) for scan in image.values())
    if isinstance(image, (list, tuple)):
        return bool(image) and all(map(is_subject, image))
    return hasattr(image, "affine") or hasattr(image, "lesions")  # a Scan, a Subject


def check_images(image: Any, modalities: Sequence[str], stride: int) -> torch.Tensor:
    """Convert images of any accepted type to one tensor, and check them.

    Args:
        image: A tensor (C, H, W) or (B, C, H, W); an array (H, W, C) or (B, H, W, C), or without the last axis if there
            is one modality; a list of these; or `{modality: image}` in any order, each a PIL image, or an array or
            tensor (H, W) or (B, H, W), where modalities that are left out are missing and become 0. uint8 and
            uint16 are scaled by the range of their type; floats must be in [0, 1].
        modalities: Names of the channels, in order.
        stride: Height and width must be divisible by it.

    Returns:
        Images, (B, C, H, W) float32 in [0, 1].

    Raises:
        TypeError: If the input is of another type.
        ValueError: If modalities are unknown, the number of channels or the sizes do not fit, or values are NaN or out
            of range.
    """
    if isinstance(image, Mapping):
        images = _of_modalities(image, modalities)
    else:
        images = _of_one_size(image if isinstance(image, (list, tuple)) else [image], len(modalities))
    height, width = images.shape[2:]
    if not len(images) or not height or height % stride or width % stride:
        raise ValueError(
            f"Got images of shape {tuple(images.shape)}; expected at least one, with height and width divisible "
            f"by {stride}. Crop, pad or resize them."
        )
    return images


def unet_stride(unet: Any) -> int:
    """Return what height and width must be divisible by, for a unet of this package or a `UNet2DModel`."""
    return unet.stride if hasattr(unet, "stride") else 2 ** (len(unet.config["block_out_channels"]) - 1)


def unet_sample_size(unet: Any) -> tuple[int, ...]:
    """Return the size, such as (H, W), of the images or latents that a unet was trained on."""
    size = unet.config["sample_size"]
    return (size, size) if isinstance(size, int) else tuple(size)


def subject_to_slices(source: Any, modalities: Sequence[str], spacing: float | None, size: tuple[int, ...]) -> Any:
    """Load the scans of a subject, resample them and cut them into slices.

    Args:
        source: Scans or paths, see `is_subject`.
        modalities: Names of the channels, in order.
        spacing: Edge length of the pixels in mm.
        size: (H, W) of the slices.

    Returns:
        A `SubjectSlices` of the package meddiffusers, with `images` (B, C, H, W) and the inverse, `invert`.

    Raises:
        ImportError: If the package meddiffusers, which reads scans, is not installed.
        ValueError: If the spacing is unknown, or as the package does.
    """
    try:
        # the one thing that a published file cannot bring along
        from meddiffusers.data.preprocessing.subject_slices import subject_slices
    except ImportError as error:
        raise ImportError(
            "Reading and resampling scans requires the package meddiffusers, which is not installed here. "
            "Install it, or give tensors or arrays of images."
        ) from error
    if spacing is None:
        raise ValueError(
            "The pixel spacing of this model is unknown, so scans cannot be resampled to it. Give tensors or arrays, "
            "or set it: pipe.register_to_config(spacing=MM)."
        )
    height, width = size
    return subject_slices(source, modalities, spacing=spacing, size=(height, width))


def to_indexed(values: Mapping[Any, Any] | Sequence[Any]) -> dict[str, Any]:
    """Convert a list to {"0": first, …}: diffusers takes a list in `model_index.json` for the name of a component."""
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise ValueError(f"Got {values!r}; expected a list, or values by index.")
    by_index = values if isinstance(values, Mapping) else dict(enumerate(values))
    return {str(key): value for key, value in by_index.items()}


def from_indexed(by_index: Mapping[str, Any]) -> tuple[Any, ...]:
    """Invert `to_indexed`."""
    return tuple(value for _, value in sorted(by_index.items(), key=lambda item: int(item[0])))


def to_spacing(spacing: Any) -> float | None:
    """Return a spacing as a float, since diffusers warns of an int when it loads one; None for None."""
    return float(spacing) if isinstance(spacing, int) and not isinstance(spacing, bool) else spacing


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


def select_generators(generator: Generators, images: slice) -> Generators:
    """Return the generators of some of the images."""
    return generator[images] if isinstance(generator, list) else generator


def _of_modalities(image: Mapping[str, Any], modalities: Sequence[str]) -> torch.Tensor:
    """Stack images by modality to (B, C, H, W); missing ones are 0."""
    unknown = [name for name in image if name not in modalities]
    if unknown or not image:
        raise ValueError(
            f"Got the modalities {', '.join(map(str, image)) or '(none)'}; expected one or more of "
            f"{', '.join(modalities)}."
        )
    given = {name: _unit_range(_grey(_as_tensor(channel)), name) for name, channel in image.items()}
    given = {name: channel[None] if channel.ndim == 2 else channel for name, channel in given.items()}
    shapes = {name: tuple(channel.shape) for name, channel in given.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 3 for shape in shapes.values()):
        raise ValueError(f"Got modalities of shapes {shapes}; expected one shape for all, (H, W) or (B, H, W).")
    missing = torch.zeros_like(next(iter(given.values())))
    return torch.stack([given.get(name, missing) for name in modalities], dim=1)


def _of_one_size(images: Sequence[Any], channels: int) -> torch.Tensor:
    """Join images, each alone or several in one array, to (B, C, H, W)."""
    tensors = [_unit_range(_channels_first(image, channels), "the image") for image in images]
    sizes = {tuple(tensor.shape[2:]) for tensor in tensors}
    if len(sizes) != 1:
        raise ValueError(
            f"Got a list of images of the sizes {', '.join(map(str, sorted(sizes))) or '(none)'}; expected one size. "
            "Crop, pad or resize them, or pass them one by one."
        )
    return torch.cat(tensors)


def _as_tensor(image: Any) -> torch.Tensor:
    """Convert an array or PIL image to a tensor of the same type and shape."""
    if isinstance(image, torch.Tensor):
        return image
    if not isinstance(image, (PIL.Image.Image, np.ndarray)):
        raise TypeError(f"Got a {type(image).__name__}; expected a tensor, an array, {{modality: image}}, or scans.")
    if isinstance(image, PIL.Image.Image) and len(image.getbands()) + (image.mode == "P") > 1:
        raise ValueError(f"Got a PIL image of mode {image.mode}; expected grey values. Convert it: image.convert('L').")
    array = np.asarray(image)
    if array.dtype.kind not in "buif":
        raise ValueError(f"Got an array of type {array.dtype}; expected uint8, uint16 or floats in [0, 1].")
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))  # a copy; scans are often big-endian


def _channels_first(image: Any, channels: int) -> torch.Tensor:
    """Convert a tensor (channels first) or array (channels last) to (B, C, H, W), and check C."""
    pixels = _as_tensor(image)
    if not isinstance(image, torch.Tensor):
        if channels == 1 and pixels.ndim in (2, 3) and pixels.shape[-1] != 1:
            pixels = _grey(pixels)[..., None]
        pixels = pixels.movedim(-1, -3) if pixels.ndim in (3, 4) else pixels
    if pixels.ndim not in (3, 4) or pixels.shape[-3] != channels:
        raise ValueError(
            f"Got {'a tensor' if isinstance(image, torch.Tensor) else 'an array'} of shape {tuple(np.shape(image))}; "
            f"expected {channels} channels: a tensor (C, H, W) or (B, C, H, W), an array (H, W, C) or (B, H, W, C), or "
            "{modality: image}."
        )
    return pixels if pixels.ndim == 4 else pixels[None]


def _grey(pixels: torch.Tensor) -> torch.Tensor:
    """Return images (H, W) or (B, H, W); raise a ValueError for colours (H, W, 3) or (H, W, 4)."""
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4) and min(pixels.shape[:2]) > 4:
        raise ValueError(
            f"Got an array of shape {tuple(pixels.shape)}, as colours have; expected grey values (H, W) or "
            "(B, H, W). Convert it to grey, or choose a channel."
        )
    return pixels


def _unit_range(pixels: torch.Tensor, name: str) -> torch.Tensor:
    """Scale uint8 and uint16 to [0, 1]; check that floats are in it."""
    if pixels.dtype in (torch.uint8, torch.uint16):
        return pixels.float() / torch.iinfo(pixels.dtype).max
    if not pixels.is_floating_point():
        raise ValueError(
            f"{name} is of type {pixels.dtype}, whose range is not an intensity range. Convert it to uint8, uint16 "
            "or to floats in [0, 1]."
        )
    if not torch.isfinite(pixels).all():
        raise ValueError(f"{name} holds NaN or infinite values. Repair or remove them.")
    low, high = (float(end) for end in pixels.aminmax()) if pixels.numel() else (0.0, 0.0)
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise ValueError(
            f"{name} has values from {low:.4g} to {high:.4g}; expected [0, 1]. Map the 1st and 99th percentile of the "
            "foreground of each channel to it, or give a Scan, for which this is done."
        )
    return pixels.float().clamp(0, 1)
