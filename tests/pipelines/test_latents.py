"""Latents of a VAE with image_range, scaling_factor and shift_factor: pipelines, caches and evaluation agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from helpers.small_latent_diffusion import of_images, of_volumes
from helpers.small_text_to_mr import small_text_to_mr, text_rows

from meddiffusers.datasets.rows import images_of
from meddiffusers.evaluation.generation.autoencoder import reconstruct
from meddiffusers.pipelines.meddiffusers_latents_v1 import decode_latents, encode_images, normalize_latents
from meddiffusers.training.tasks.latent_diffusion.cache import cached_latents
from meddiffusers.training.tasks.text_to_mr.cache import cached_text

SCALE, SHIFT = 0.7, 0.3  # of the helpers' autoencoders
RANGES = [(-1.0, 1.0), (0.0, 1.0), (2.0, -0.5)]
HALF_PRECISION = 2e-3  # of the caches


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)


def image_rows(channels: int) -> datasets.Dataset:
    """Five random images of 16² pixels."""
    images = np.random.default_rng(0).random((5, channels, 16, 16), np.float32)
    features = datasets.Features({"image": datasets.Array3D(images.shape[1:], "float32")})
    return datasets.Dataset.from_dict({"image": list(images)}, features)


def expected_latents(vae: Any, images: torch.Tensor, image_range: tuple[float, float]) -> torch.Tensor:
    low, high = image_range
    return (vae.encode(low + (high - low) * images).latent_dist.mean - SHIFT) * SCALE


@pytest.mark.parametrize("image_range", RANGES)
@pytest.mark.parametrize("build", [of_images, small_text_to_mr])
@torch.no_grad()
def test_pipelines_encode_and_decode_by_the_formulas(build: Any, image_range: tuple[float, float]) -> None:
    pipeline = build(image_range=image_range)
    assert (pipeline.vae.config["scaling_factor"], pipeline.vae.config["shift_factor"]) == (SCALE, SHIFT)
    images = torch.rand(2, pipeline.vae.config["in_channels"], 16, 16)
    latents = pipeline.encode(images)
    torch.testing.assert_close(latents, expected_latents(pipeline.vae, images, image_range))
    low, high = image_range
    decoded = (pipeline.vae.decode(latents / SCALE + SHIFT).sample - low) / (high - low)
    torch.testing.assert_close(pipeline.decode(latents), decoded.clamp(0, 1))
    torch.testing.assert_close(reconstruct(pipeline.vae, images, image_range), pipeline.decode(latents))


@pytest.mark.parametrize("image_range", RANGES)
@torch.no_grad()
def test_cached_latents_are_those_of_the_pipeline(image_range: tuple[float, float]) -> None:
    rows, pipeline = image_rows(channels=2), of_images(image_range=image_range)
    images = torch.from_numpy(images_of(rows))
    moments = torch.from_numpy(cached_latents(rows, pipeline, axis=3).astype(np.float32))
    for view, original in enumerate((images, images.flip(3))):
        latents = normalize_latents(pipeline.vae, moments[:, view].chunk(2, dim=1)[0])
        torch.testing.assert_close(latents, pipeline.encode(original), atol=HALF_PRECISION, rtol=HALF_PRECISION)
    other = cached_latents(rows, of_images(image_range=(0.0, 0.5)), axis=3)
    assert not np.allclose(other[:, 0], moments[:, 0], atol=1e-2)


@pytest.mark.parametrize("image_range", RANGES)
@torch.no_grad()
def test_cached_latents_of_prompts_are_those_of_the_pipeline(image_range: tuple[float, float]) -> None:
    rows, pipeline = text_rows(4), small_text_to_mr(positions=512, image_range=image_range)
    images = torch.from_numpy(images_of(rows))
    data = cached_text(rows, pipeline, captions=1)
    for view, original in enumerate((images, images.flip(-1))):
        moments = torch.stack([data.item(i, view, 0)["moments"] for i in range(len(rows))])
        latents = normalize_latents(pipeline.vae, moments.chunk(2, dim=1)[0])
        torch.testing.assert_close(latents, pipeline.encode(original), atol=HALF_PRECISION, rtol=HALF_PRECISION)


@torch.no_grad()
def test_without_entries_latents_are_not_normalised() -> None:
    """Volumes' autoencoders have no shift_factor."""
    vae: Any = of_volumes().vae
    vae.register_to_config(scaling_factor=1.0)
    assert "shift_factor" not in vae.config
    images = torch.rand(1, 1, 8, 12, 8)
    torch.testing.assert_close(encode_images(vae, images), vae.encode(2 * images - 1).latent_dist.mode())
    latents = torch.randn(1, 2, 4, 6, 4)
    torch.testing.assert_close(decode_latents(vae, latents), ((vae.decode(latents).sample + 1) / 2).clamp(0, 1))


@torch.no_grad()
def test_half_precision_encodes_in_the_type_of_the_weights() -> None:
    vae = AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, in_channels=1, out_channels=1).to(torch.bfloat16)
    latents = encode_images(vae, torch.rand(1, 1, 8, 8))
    assert latents.dtype is torch.bfloat16
    assert decode_latents(vae, latents).dtype is torch.float32
