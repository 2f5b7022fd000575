"""Pipelines of every kind that samples, whose network is exact for pixels of a known Gaussian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from contracts.pipeline_contract import generator
from helpers.gaussian_denoiser import GaussianDenoiser
from helpers.small_latent_diffusion import of_images
from helpers.small_segmentation import NETWORK, joint_unet, pipeline_of
from helpers.small_text_to_mr import WIDTH, small_text_to_mr
from torch import Tensor

from meddiffusers import (
    AnomalyDetectionPipeline,
    ImageDiffusionPipeline,
    LatentDiffusionPipeline,
    PatchUNet2DModel,
    TextToMRPipeline,
)


def with_denoiser(pipeline: Any, kind: str, **changes: Any) -> Any:
    """The pipeline with the exact network in place of its own."""
    pipeline.unet = GaussianDenoiser(kind, pipeline.unet.config, **changes)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def image(scheduler: Any, kind: str) -> Any:
    unet = PatchUNet2DModel(in_channels=4, sample_size=32, network=NETWORK)
    return with_denoiser(ImageDiffusionPipeline(unet, scheduler), kind)


def segmentation(scheduler: Any, kind: str) -> Any:
    return with_denoiser(pipeline_of(joint_unet(), scheduler), kind, channels=1)


def latent(scheduler: Any, kind: str) -> Any:
    parts = of_images().components | {"scheduler": scheduler}
    return with_denoiser(LatentDiffusionPipeline(**parts), kind)


def text(scheduler: Any, kind: str) -> Any:
    return with_denoiser(TextToMRPipeline(**small_text_to_mr().components | {"scheduler": scheduler}), kind)


def anomaly(scheduler: Any, kind: str) -> Any:
    unet = PatchUNet2DModel(in_channels=4, sample_size=32, network=NETWORK)
    return with_denoiser(AnomalyDetectionPipeline(unet, scheduler), kind)


def samples(pipeline: Any, steps: int = 50, **call: Any) -> Tensor:
    """4,096 samples of a pixel or more, in the range of the network."""
    call = {"num_inference_steps": steps, "generator": generator(0), "output_type": "pt", **call}
    if isinstance(pipeline, ImageDiffusionPipeline):
        return 2 * pipeline(**call).images - 1
    if isinstance(pipeline, LatentDiffusionPipeline):
        noise = torch.randn(1, 2, 64, 64, generator=generator(1))
        return pipeline(**{"latents": noise, **call, "output_type": "latent"}).images
    if isinstance(pipeline, TextToMRPipeline):
        tokens = {"prompt_embeds": torch.zeros(1, 1, WIDTH), "height": 128, "width": 128, "guidance_scale": 1.0}
        return pipeline(**{**tokens, **call, "output_type": "latent"}).images
    if isinstance(pipeline, AnomalyDetectionPipeline):
        call = {"encoding": "noise", "strength": 1.0, "method": "none", **call}
        return 2 * pipeline(torch.zeros(1, 4, 32, 32), **call).counterfactual - 1
    return 2 * pipeline(torch.zeros(1, 4, 64, 64), **{"ensemble_size": 1, **call}).probability[:, 1] - 1


PIPELINES: dict[str, Callable[[Any, str], Any]] = {
    "image": image,
    "segmentation": segmentation,
    "latent": latent,
    "text": text,
}
