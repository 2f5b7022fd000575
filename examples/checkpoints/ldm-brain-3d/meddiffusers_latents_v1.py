"""Images as latents of a variational autoencoder and back, and the NIfTI form of decoded images.

Several published pipelines import these functions from this file beside them, and the training and evaluation of this
project use them too, so that all agree on intensities and on the normalisation of latents.

| symbol | here | shape |
|---|---|---|
| x | images or volumes in [0, 1] | (B, C, …) |
| x' | x in `image_range`: low + (high − low) x | (B, C, …) |
| μ, σ | mean and standard deviation of the VAE's posterior q(z' ∣ x') | (B, c, …) |
| z | normalised latents, (z' − shift_factor) · scaling_factor | (B, c, …) |

`scaling_factor` and `shift_factor` are entries of the VAE's configuration, 1 and 0 by default (Rombach et al. 2022,
"High-resolution image synthesis with latent diffusion models", appendix G).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .meddiffusers_checks_v1 import check_finite

PUBLISHED_AS = "meddiffusers_latents_v1"  # also its file name here, so that imports find it in both places


def encode_posterior(vae: Any, images: torch.Tensor, image_range: Sequence[float] = (-1.0, 1.0)) -> Any:
    """Encode images to the distribution of their latents, which are not normalised yet.

    Args:
        vae: `AutoencoderKL`, or another model whose `encode` returns a `latent_dist`.
        images: Images or volumes (B, C, …) in [0, 1], on the device of the VAE.
        image_range: Values of the intensities 0 and 1 in the VAE's input.
    """
    low, high = image_range
    return vae.encode((low + (high - low) * images).to(vae.dtype)).latent_dist


def normalize_latents(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Shift and scale latents of the VAE to those that a denoiser sees."""
    shift, scale = _normalization(vae)
    return (latents - shift) * scale


def encode_images(
    vae: Any, images: torch.Tensor, image_range: Sequence[float] = (-1.0, 1.0), device: torch.device | None = None
) -> torch.Tensor:
    """Encode images (B, C, …) in [0, 1] to normalised latents (B, c, …), those of the posterior's mode."""
    _check_input(vae, "images", images, "in_channels")
    latents = normalize_latents(vae, encode_posterior(vae, images.to(device or images.device), image_range).mode())
    check_finite(latents, "vae", "the encoding of the images")
    return latents


def decode_latents(vae: Any, latents: torch.Tensor, image_range: Sequence[float] = (-1.0, 1.0)) -> torch.Tensor:
    """Decode normalised latents (B, c, …) to images (B, C, …) in [0, 1], float32."""
    _check_input(vae, "latents", latents, "latent_channels")
    shift, scale = _normalization(vae)
    low, high = image_range
    decoded = vae.decode((latents / scale + shift).to(vae.dtype)).sample
    check_finite(decoded, "vae", "the decoding of the latents")
    return ((decoded.float() - low) / (high - low)).clamp(0, 1)


def to_nifti(image: np.ndarray, spacing: float | None) -> Any:
    """Convert an image or volume to a NIfTI image, centred at the origin of the RAS+ space.

    Args:
        image: Intensities in [0, 1]: a slice (C, H, W), which becomes one axial slice whose rows run from anterior to
            posterior and whose columns run from the patient's right to the left, as radiologists view it; or a volume
            (C, D, H, W), whose axes point to the right, to the front and upwards.
        spacing: Edge length of a pixel or voxel in mm; 1 if unknown.

    Returns:
        A `nibabel.Nifti1Image` of three axes, or four where there are several channels. A file of it has 16 bits.

    Raises:
        ImportError: nibabel is not installed.
    """
    try:
        import nibabel
    except ImportError as error:
        raise ImportError('NIfTI needs nibabel: pip install nibabel. Or ask for output_type="np".') from error
    edge, signs = spacing or 1.0, (1, 1, 1)
    if image.ndim == 3:
        image, signs = image.transpose(0, 2, 1)[..., None], (-1, -1, 1)
    affine = np.diag([*(sign * edge for sign in signs), 1.0])
    affine[:3, 3] = [-sign * edge * (side - 1) / 2 for sign, side in zip(signs, image.shape[1:], strict=True)]
    nifti = nibabel.Nifti1Image(image[0] if len(image) == 1 else np.moveaxis(image, 0, -1), affine)
    nifti.set_data_dtype(np.uint16)  # of the file, which nibabel scales
    return nifti


def _check_input(vae: Any, name: str, values: Any, channels: str) -> None:
    """Raise a ValueError if images or latents are no finite tensor (B, C, …) with the channels of the VAE."""
    if vae is None:
        raise ValueError(f"This pipeline has no vae for {name}. Load it with one.")
    if not isinstance(values, torch.Tensor):
        raise ValueError(f"Got {name} of type {type(values).__name__}; expected a tensor.")
    axes, count = vae.config.get("spatial_dims", 2) + 2, vae.config.get(channels)
    if values.ndim != axes or not values.numel() or count not in (None, values.shape[1]):
        raise ValueError(
            f"Got {name} of shape {tuple(values.shape)}; expected {axes} axes, the second of {count} channels."
        )
    if not values.is_floating_point() or not torch.isfinite(values).all():
        raise ValueError(f"Got {name} of type {values.dtype} or with NaN; expected finite floating-point values.")


def _normalization(vae: Any) -> tuple[float, float]:
    """`shift_factor` and `scaling_factor`."""
    return vae.config.get("shift_factor") or 0.0, vae.config.get("scaling_factor") or 1.0
