"""Mean and covariance of a VAE's latents over a set of images: the moments of its aggregated posterior.

For z ~ q(z | x) with x uniform over the images: E[z] = mean μ(x), Cov[z] = Cov[μ(x)] + mean diag σ²(x).
"""

from __future__ import annotations

import numpy as np
import torch

from meddiffusers.evaluation.attributes.batched import BATCH
from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline


@torch.no_grad()
def latent_moments(pipeline: AttributeVAEPipeline, images: torch.Tensor) -> dict[str, list]:
    """Moments of the latents of images (B, …), as the pipeline takes them.

    Returns:
        {"mean": (K,), "covariance": (K, K)} as nested lists, as the model's config stores them.
    """
    vae = pipeline.vae
    posteriors = [
        vae.encode(pipeline.preprocess(batch).to(vae.device, vae.dtype)).latent_dist for batch in images.split(BATCH)
    ]
    means = torch.cat([posterior.mean for posterior in posteriors]).double().cpu().numpy()
    variances = torch.cat([posterior.var for posterior in posteriors]).double().cpu().numpy()
    covariance = np.cov(means, rowvar=False) + np.diag(variances.mean(axis=0))
    return {"mean": means.mean(axis=0).round(6).tolist(), "covariance": covariance.round(6).tolist()}
