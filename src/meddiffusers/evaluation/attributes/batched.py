"""Encode and decode large sets of images with a VAE pipeline, in batches, to and from numpy arrays."""

from __future__ import annotations

import numpy as np
import torch

from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline

BATCH = 256


def posterior_means(pipeline: AttributeVAEPipeline, images: torch.Tensor) -> np.ndarray:
    """Encode images as the pipeline takes them, (B, …), to their posterior means (B, K)."""
    return np.concatenate([pipeline.encode(batch).float().cpu().numpy() for batch in images.split(BATCH)])


def decode_latents(pipeline: AttributeVAEPipeline, latents: np.ndarray) -> np.ndarray:
    """Decode latents (B, K) to images (B, H, W) as attribute measures take them, see `to_measure_input`."""
    batches = torch.from_numpy(latents).split(BATCH)
    images = (pipeline.decode(batch, output_type="np").images for batch in batches)
    return np.concatenate([to_measure_input(pipeline, batch) for batch in images])


def to_measure_input(pipeline: AttributeVAEPipeline, images: np.ndarray) -> np.ndarray:
    """Convert the pipeline's "np" output to what attribute measures take.

    Returns:
        Intensities (B, H, W) in [0, 1], or label maps (B, H, W) from a categorical VAE.
    """
    if pipeline.vae.config["likelihood"] == "categorical":
        return images
    low, high = pipeline.vae.config["value_range"]
    return (images.squeeze(-1) - low) / (high - low)
