"""Latent diffusion pipelines of a few thousand weights: volumes of covariates, images of classes and label maps."""

from __future__ import annotations

from typing import Any

import torch
from contracts.pipeline_contract import seeded
from diffusers import AutoencoderKL, DDIMScheduler

from meddiffusers import ConditionedUNet, LatentDiffusionPipeline, MonaiAutoencoderKL

MASK_LABELS = {"1": "core", "4": "rim"}
RANGES = {"age": [20, 80], "sex": ["F", "M"]}
NETWORK: dict[str, Any] = {
    "num_res_blocks": [1, 1],
    "channels": [4, 8],
    "attention_levels": [False, True],
    "norm_num_groups": 2,
    "num_head_channels": [0, 4],
}
SCHEDULE: dict[str, Any] = {"clip_sample": False, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}


def of_volumes(**config: Any) -> LatentDiffusionPipeline:
    """Volumes of 8 × 12 × 8 voxels, latents of 4 × 6 × 4."""
    with seeded():
        vae = MonaiAutoencoderKL(
            num_res_blocks=[1, 1],
            channels=[4, 8],
            attention_levels=[False, False],
            latent_channels=2,
            norm_num_groups=2,
            scaling_factor=0.7,
        ).eval()
        unet = ConditionedUNet(latent_channels=2, sample_size=[4, 6, 4], covariates=RANGES, network=NETWORK).eval()
    return _pipeline(vae, unet, **config)


def of_images(mask_labels: dict[str, str] | None = MASK_LABELS, **config: Any) -> LatentDiffusionPipeline:
    """Images of 8² pixels in two modalities, latents of 4²."""
    with seeded():
        vae = AutoencoderKL(
            in_channels=2,
            out_channels=2,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(4, 8),
            latent_channels=2,
            norm_num_groups=2,
            scaling_factor=0.7,
            shift_factor=0.3,
        ).eval()
        unet = ConditionedUNet(
            spatial_dims=2,
            latent_channels=2,
            sample_size=[4, 4],
            id2label=["well", "ill"],
            mask_labels=mask_labels,
            mask_downsample=2,
            network=NETWORK,
        ).eval()
    return _pipeline(vae, unet, **config)


def _pipeline(vae: Any, unet: ConditionedUNet, **config: Any) -> LatentDiffusionPipeline:
    with seeded():
        torch.nn.init.normal_(unet.unet.out[2].conv.weight, std=0.3)  # which is 0 before training
    return LatentDiffusionPipeline(vae, unet, DDIMScheduler(**SCHEDULE), **config)
