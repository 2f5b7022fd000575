"""Small untrained segmentation pipelines, and images for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from contracts.pipeline_contract import generator, seeded
from diffusers import DDIMScheduler, UNet2DModel

from meddiffusers import ConditionalSegmentationPipeline, SegmentationUNet

NETWORK = {
    "block_out_channels": [4, 8],
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "attention_head_dim": 4,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}
SCHEDULE: dict[str, Any] = {"clip_sample": False, "timestep_spacing": "trailing", "prediction_type": "sample"}
LABELS = ["background", "oedema", "core", "enhancing"]


def small_unet(**config: Any) -> SegmentationUNet:
    """A small network, both parts of which have attention, which adapters target."""
    with seeded():
        return SegmentationUNet(
            **{"image_channels": 4, "sample_size": 8, "denoiser_config": NETWORK, "image_encoder_config": NETWORK}
            | {"feature_channels": 12, **config}
        ).eval()


def joint_unet(in_channels: int = 5, out_channels: int = 1) -> UNet2DModel:
    """The network of Wolleb et al.: image and noisy mask are its input channels."""
    with seeded():
        return UNet2DModel(sample_size=8, in_channels=in_channels, out_channels=out_channels, **NETWORK).eval()


def pipeline_of(
    unet: Any = None, scheduler: Any = None, labels: Sequence[str] = LABELS[:2], **config: Any
) -> ConditionalSegmentationPipeline:
    """A pipeline with DDIM, which is deterministic, and the mask channels of the labels."""
    channels = 1 if len(labels) == 2 else len(labels)
    pipeline = ConditionalSegmentationPipeline(
        unet or small_unet(mask_channels=channels),
        scheduler or DDIMScheduler(**SCHEDULE),
        id2label=dict(enumerate(labels)),
        **config,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def random_images(*shape: int) -> torch.Tensor:
    """Intensities in multiples of 1/255."""
    return torch.randint(0, 256, shape or (2, 4, 8, 8), generator=generator(7)) / 255
