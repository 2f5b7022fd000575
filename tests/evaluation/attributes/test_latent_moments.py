"""Moments of the latents against the definition, and samples from them against the covariance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from meddiffusers.evaluation.attributes.latent_moments import latent_moments
from meddiffusers.models.attribute_vae import AttributeVAE
from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline

K = 3


def small_vae(**config: object) -> AttributeVAE:
    torch.manual_seed(0)
    return AttributeVAE(sample_size=8, block_out_channels=[4], hidden_dim=8, latent_dim=K, **config).eval()


def test_moments_are_those_of_latents_drawn_from_the_posteriors() -> None:
    vae = small_vae()
    images = torch.randint(0, 256, (300, 1, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    moments = latent_moments(AttributeVAEPipeline(vae), images)
    with torch.no_grad():
        posterior = vae.encode(images / 255).latent_dist
        noise = torch.randn(2000, 300, K, generator=torch.Generator().manual_seed(2))
        samples = (posterior.mean + posterior.std * noise).reshape(-1, K).numpy()
    np.testing.assert_allclose(moments["mean"], samples.mean(axis=0), atol=0.005)
    np.testing.assert_allclose(moments["covariance"], np.cov(samples, rowvar=False), atol=0.02)


def test_samples_have_exactly_the_stored_moments() -> None:
    moments = {"mean": [1.0, -2.0, 0.5], "covariance": [[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]]}
    vae = small_vae(latent_moments=moments)
    centred = vae.from_standard_normal(torch.eye(K)) - torch.tensor(moments["mean"])
    torch.testing.assert_close(centred.T @ centred, torch.tensor(moments["covariance"]))
    torch.testing.assert_close(vae.from_standard_normal(torch.zeros(1, K))[0], torch.tensor(moments["mean"]))


def test_without_moments_standard_normal_numbers_are_the_latents() -> None:
    noise = torch.randn(4, K)
    assert small_vae().from_standard_normal(noise) is noise


def test_the_pipeline_samples_with_them() -> None:
    moments = {"mean": [5.0] * K, "covariance": (np.eye(K) * 1e-8).tolist()}
    pipeline = AttributeVAEPipeline(small_vae(latent_moments=moments))
    latents = pipeline.sample(4, torch.Generator().manual_seed(0), output_type="pt").latents
    torch.testing.assert_close(latents, torch.full((4, K), 5.0), atol=1e-3, rtol=0)


def test_moments_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"latent_moments .* expected \(3,\) and \(3, 3\)"):
        small_vae(latent_moments={"mean": [0.0, 0.0], "covariance": np.eye(2).tolist()})
