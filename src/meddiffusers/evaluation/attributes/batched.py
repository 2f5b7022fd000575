"""A VAE pipeline over more images than its network should hold at once, to and from numpy arrays."""

from __future__ import annotations

import numpy as np
import torch

from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline

BATCH = 256


def posterior_means(pipeline: AttributeVAEPipeline, images: torch.Tensor) -> np.ndarray:
    """(N, K) of images (N, …) that the pipeline takes."""
    return np.concatenate([pipeline.encode(batch).float().cpu().numpy() for batch in images.split(BATCH)])


def decoded(pipeline: AttributeVAEPipeline, latents: np.ndarray) -> np.ndarray:
    """Images of latents (M, K), `measurable`."""
    batches = torch.from_numpy(latents).split(BATCH)
    return np.concatenate([measurable(pipeline, pipeline.decode(batch, output_type="np").images) for batch in batches])


def measurable(pipeline: AttributeVAEPipeline, images: np.ndarray) -> np.ndarray:
    """The pipeline's "np" output as measures take it: intensities (N, H, W) in [0, 1], or label maps (N, H, W)."""
    if pipeline.vae.config["likelihood"] == "categorical":
        return images
    low, high = pipeline.vae.config["value_range"]
    return (images.squeeze(-1) - low) / (high - low)
