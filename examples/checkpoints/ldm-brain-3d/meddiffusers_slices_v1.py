"""What a slice-wise pipeline takes: images in any form, or a subject's scans, of which it makes images.

A file of plain functions that several published pipelines import from beside them; it is published with each.

| here | shape |
|---|---|
| images | (N, C, H, W) float32 in [0, 1], the channels in the order of `modalities` |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import PIL.Image
import torch

PUBLISHED_AS = "meddiffusers_slices_v1"  # file name in a repository; here the same, so that both find it
TOLERANCE = 1e-3  # by which intensities may leave [0, 1]


def is_subject(image: Any) -> bool:
    """Whether these are scans, or where scans lie, rather than images."""
    if isinstance(image, (str, PathLike)):
        return True
    if isinstance(image, Mapping):
        return any(is_subject(scan) for scan in image.values())
    if isinstance(image, (list, tuple)):
        return bool(image) and all(map(is_subject, image))
    return hasattr(image, "affine") or hasattr(image, "lesions")  # a Scan, a Case


def check_images(image: Any, modalities: Sequence[str], stride: int) -> torch.Tensor:
    """Images as checked images.

    image: a tensor (C, H, W) or (N, C, H, W); an array (H, W, C) or (N, H, W, C), or without the last axis where there
        is one modality; or `{modality: image}` in any order, each a PIL image, or an array or tensor (H, W) or
        (N, H, W): modalities that are left out are missing, and seen as 0. uint8 and uint16 are scaled by the range of
        their type; floats must lie in [0, 1].
    stride: of the network, by which height and width must be divisible.

    Raises:
        TypeError: something else.
        ValueError: unknown modalities, another number of channels, sizes that differ or are not divisible, NaN, or
            values out of range.
    """
    if isinstance(image, Mapping):
        images = _of_modalities(image, modalities)
    else:
        images = _unit_range(_channels_first(image, len(modalities)), "the image")
    height, width = images.shape[2:]
    if not len(images) or not height or height % stride or width % stride:
        raise ValueError(
            f"Got images of shape {tuple(images.shape)}; expected at least one, with height and width divisible "
            f"by {stride}. Crop, pad or resize them."
        )
    return images


def stride_of(unet: Any) -> int:
    """What height and width of a image must be divisible by; `unet` is one of this package or a `UNet2DModel`."""
    return unet.stride if hasattr(unet, "stride") else 2 ** (len(unet.config["block_out_channels"]) - 1)


def size_of(unet: Any) -> tuple[int, int]:
    """Height and width of the images that a unet was trained on."""
    size = unet.config["sample_size"]
    return (size, size) if isinstance(size, int) else tuple(size)


def cut_subject(source: Any, modalities: Sequence[str], spacing: float | None, size: tuple[int, int]) -> Any:
    """A subject's scans as images of a size, brought to a spacing in mm, which know the way back.

    Raises:
        ImportError: the package meddiffusers, which reads scans, is not installed.
        ValueError: the spacing is unknown, or as the package does.
    """
    try:
        from meddiffusers.data.preprocessing.subject_slices import (
            subject_slices,  # the one thing a published file cannot bring
        )
    except ImportError as error:
        raise ImportError(
            "Reading and resampling scans is the work of the package meddiffusers, which is not installed here. "
            "Install it, or give tensors or arrays of images."
        ) from error
    if spacing is None:
        raise ValueError(
            "This model does not know how large its pixels are, so scans cannot be brought to them. Give tensors "
            "or arrays, or say it: pipe.register_to_config(spacing=MM)."
        )
    return subject_slices(source, modalities, spacing=spacing, size=size)


def to_indexed(values: Mapping[Any, Any] | Sequence[Any]) -> dict[str, Any]:
    """{"0": first, …}, as `model_index.json` can hold it: of a list diffusers thinks that it names a component."""
    by_number = values if isinstance(values, Mapping) else dict(enumerate(values))
    return {str(key): value for key, value in by_number.items()}


def from_indexed(by_number: Mapping[str, Any]) -> tuple[Any, ...]:
    """What `numbered` has numbered."""
    return tuple(value for _, value in sorted(by_number.items(), key=lambda item: int(item[0])))


def _of_modalities(image: Mapping[str, Any], modalities: Sequence[str]) -> torch.Tensor:
    unknown = [name for name in image if name not in modalities]
    if unknown or not image:
        raise ValueError(
            f"Got the modalities {', '.join(map(str, image)) or '(none)'}; expected one or more of "
            f"{', '.join(modalities)}."
        )
    given = {name: _unit_range(_as_tensor(channel), name) for name, channel in image.items()}
    given = {name: channel[None] if channel.ndim == 2 else channel for name, channel in given.items()}
    shapes = {name: tuple(channel.shape) for name, channel in given.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 3 for shape in shapes.values()):
        raise ValueError(f"Got modalities of shapes {shapes}; expected one shape for all, (H, W) or (N, H, W).")
    missing = torch.zeros_like(next(iter(given.values())))
    return torch.stack([given.get(name, missing) for name in modalities], dim=1)


def _as_tensor(image: Any) -> torch.Tensor:
    """A tensor as it is; an array or PIL image as a tensor of the same type and shape."""
    if isinstance(image, torch.Tensor):
        return image
    if not isinstance(image, (PIL.Image.Image, np.ndarray)):
        raise TypeError(f"Got a {type(image).__name__}; expected a tensor, an array, {{modality: image}}, or scans.")
    array = np.asarray(image)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))  # a copy; scans are often big-endian


def _channels_first(image: Any, channels: int) -> torch.Tensor:
    """One tensor (channels first) or array (channels last) as (N, C, H, W) with C checked."""
    pixels = _as_tensor(image)
    if not isinstance(image, torch.Tensor):
        if channels == 1 and pixels.ndim in (2, 3) and pixels.shape[-1] != 1:
            pixels = pixels[..., None]
        pixels = pixels.movedim(-1, -3) if pixels.ndim in (3, 4) else pixels
    if pixels.ndim not in (3, 4) or pixels.shape[-3] != channels:
        raise ValueError(
            f"Got {'a tensor' if isinstance(image, torch.Tensor) else 'an array'} of shape {tuple(np.shape(image))}; "
            f"expected {channels} channels: a tensor (C, H, W) or (N, C, H, W), an array (H, W, C) or (N, H, W, C), or "
            "{modality: image}."
        )
    return pixels if pixels.ndim == 4 else pixels[None]


def _unit_range(pixels: torch.Tensor, name: str) -> torch.Tensor:
    """Floats checked to be in [0, 1]; uint8 and uint16 scaled to it."""
    if pixels.dtype in (torch.uint8, torch.uint16):
        return pixels.float() / torch.iinfo(pixels.dtype).max
    if not pixels.is_floating_point():
        raise ValueError(
            f"{name} is of type {pixels.dtype}, whose range says nothing of intensities. Convert it to uint8, uint16 "
            "or to floats in [0, 1]."
        )
    if not torch.isfinite(pixels).all():
        raise ValueError(f"{name} holds NaN or infinite values. Repair them or leave it out.")
    low, high = (float(end) for end in pixels.aminmax()) if pixels.numel() else (0.0, 0.0)
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise ValueError(
            f"{name} has values from {low:.4g} to {high:.4g}; expected [0, 1]. Map the 1st and 99th percentile of the "
            "foreground of each channel there, or give a Scan, for which this is done."
        )
    return pixels.float().clamp(0, 1)
