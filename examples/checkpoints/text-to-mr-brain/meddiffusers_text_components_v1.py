"""Check the components of a text-to-image pipeline, and whether those that a call needs are there.

Published pipelines import this file from beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .meddiffusers_checks_v1 import check_counts, check_fraction, check_numbers, check_output_type

PUBLISHED_AS = "meddiffusers_text_components_v1"  # also its file name here, so that imports find it in both places


def check_parts(vae: Any, text_encoder: Any, unet: Any, quantity_encoder: Any) -> None:
    """Raise a ValueError if components that are given do not fit together."""
    widths = {} if text_encoder is None else {"text_encoder": text_encoder.config.hidden_size}
    for name, part in (("unet", unet), ("quantity_encoder", quantity_encoder)):
        if part is not None:
            widths[name] = part.config["cross_attention_dim"]
    if len(set(widths.values())) > 1:
        raise ValueError(
            f"Tokens have the widths {widths}; expected one. Build unet and quantity_encoder with "
            f"cross_attention_dim={next(iter(widths.values()))}, the text encoder's hidden_size."
        )
    channels = {} if vae is None else {"vae": vae.config["latent_channels"]}
    if unet is not None:
        channels |= {"unet": unet.config["in_channels"], "unet, out": unet.config["out_channels"]}
    image_channels = 1 if vae is None else vae.config["in_channels"]
    if len(set(channels.values())) > 1 or image_channels != 1:
        raise ValueError(
            f"Latents have the channels {channels}, and images {image_channels}; expected one number for all latents, "
            "and images of one channel."
        )


def check_available(pipeline: Any, output_type: str, in_pixels: bool) -> None:
    """Raise a ValueError if the pipeline lacks the unet, or the vae where images and their size in pixels need it."""
    if pipeline.unet is None:
        raise ValueError("This pipeline has no unet, so it only encodes prompts. Load it with one.")
    if pipeline.vae is None and (output_type != "latent" or in_pixels):
        raise ValueError(
            "This pipeline has no vae. Load it with one, or generate latents of the default size: "
            'output_type="latent", without image, height and width.'
        )


def check_settings(num_images_per_prompt: Any, strength: float, output_type: str, known: Sequence[str]) -> None:
    """Raise a ValueError if an argument of a call is out of its range."""
    check_counts(num_images_per_prompt=num_images_per_prompt)
    check_fraction(strength=strength)
    check_output_type(output_type, known)


def check_guidance(guidance_scale: Any, guidance_rescale: Any, cross_attention_kwargs: Any) -> None:
    """Raise a ValueError if a setting of the guidance or of the attention cannot be meant."""
    check_numbers(guidance_scale=guidance_scale, guidance_rescale=guidance_rescale)
    if not 0 <= guidance_rescale <= 1:
        raise ValueError(f"guidance_rescale={guidance_rescale}; expected a number in [0, 1].")
    if cross_attention_kwargs is None:
        return
    if not isinstance(cross_attention_kwargs, dict):
        raise ValueError(f'cross_attention_kwargs={cross_attention_kwargs!r}; expected arguments: {{"scale": 0.5}}.')
    check_numbers(**{'cross_attention_kwargs["scale"]': cross_attention_kwargs.get("scale", 1.0)})
