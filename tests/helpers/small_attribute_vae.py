"""Small untrained pipelines, and images for them."""

from __future__ import annotations

from typing import Any

import torch
from contracts.pipeline_contract import generator, seeded

from meddiffusers import AttributeVAE, AttributeVAEPipeline

AREA = {"unit": "px", "values": [10.0, 20.0, 50.0], "latents": [-1.5, 0.5, 2.0]}
SLANT = {"unit": "rad", "values": [-0.5, 0.5], "latents": [-2.0, 2.0]}


def pipeline_of(**config: Any) -> AttributeVAEPipeline:
    small = {"sample_size": [8, 12], "block_out_channels": [4, 8], "hidden_dim": 8, "latent_dim": 4}
    with seeded():
        return AttributeVAEPipeline(AttributeVAE(**{**small, **config}).eval())


def calibrated() -> AttributeVAEPipeline:
    return pipeline_of(attributes=["area", "slant", "length"], calibration={"area": AREA, "slant": SLANT})


def random_images(*shape: int) -> torch.Tensor:
    """Intensities in multiples of 1/255."""
    return torch.randint(0, 256, shape, generator=generator(7)) / 255
