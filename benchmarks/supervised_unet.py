"""The baseline of the segmentation benchmark: a supervised U-Net on the same pictures, augmented alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from accelerate.utils import extract_model_from_parallel
from diffusers import UNet2DModel
from torch import Tensor, nn

from meddiffusers.data.segmentation_slices import INTENSITY_SCALE
from meddiffusers.evaluation.segmentation_result import SegmentationResult
from meddiffusers.training.randomness import BatchRandom
from meddiffusers.training.segmentation_data import SegmentationDataConfig
from meddiffusers.training.segmentation_model import SegmentationModelConfig
from meddiffusers.training.segmentation_task import SegmentationTask
from meddiffusers.training.task import Validation

BATCH = 32


class SupervisedTask(SegmentationTask):
    """Cross-entropy to the mask of a rater drawn at random, a proper score of the raters' probabilities."""

    def __init__(self, data: SegmentationDataConfig, config: SegmentationModelConfig, channels: list[int]) -> None:
        super().__init__(data, config)
        count = len(channels)
        self.patch, self.labels = config.patch_size, 1 + len(data.classes)
        self.unet = UNet2DModel(
            sample_size=data.resolution // self.patch,
            in_channels=len(data.sequences) * self.patch**2,
            out_channels=self.labels * self.patch**2,
            block_out_channels=channels,
            down_block_types=["DownBlock2D"] * count,
            up_block_types=["UpBlock2D"] * count,
            layers_per_block=config.layers_per_block,
            norm_num_groups=config.norm_num_groups,
            attention_head_dim=config.attention_head_dim,
        )

    def loss(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Tensor], random: BatchRandom
    ) -> dict[str, Tensor]:
        image, masks = self.augmented(batch, 1, random)
        return {"loss": F.cross_entropy(logits(modules["unet"], image, self.patch).float(), masks.long())}

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        return Validation()

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> Any:
        return extract_model_from_parallel(modules["unet"], keep_fp32_wrapper=False)

    def save(self, pipeline: Any, folder: Path) -> None:
        pipeline.save_pretrained(folder)


def logits(unet: nn.Module, image: Tensor, patch: int) -> Tensor:
    """(B, L, H, W) of images (B, C, H, W)."""
    return F.pixel_shuffle(unet(F.pixel_unshuffle(image, patch), 0).sample, patch)


@torch.inference_mode()
def run_supervised(
    unet: UNet2DModel, rows: datasets.Dataset, like: SegmentationResult, patch: int, samples: int, seed: int = 0
) -> SegmentationResult:
    """What the U-Net says of the rows that `like` is of; its samples are drawn pixel by pixel from the softmax."""
    images = torch.from_numpy(np.stack(rows.with_format("numpy")["image"]).astype(np.float32) / INTENSITY_SCALE)
    probability = torch.cat([logits(unet, part, patch).softmax(dim=1) for part in images.split(BATCH)])
    foreground = 1 - probability[:, 0] > 0.5
    mask = torch.where(foreground, probability[:, 1:].argmax(dim=1) + 1, 0).byte()
    drawn = torch.distributions.Categorical(probs=probability.movedim(1, -1))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        members = drawn.sample((samples,)).movedim(0, 1).byte()
    entropy = -(probability * probability.clamp_min(1e-12).log()).sum(dim=1)
    return SegmentationResult(
        mask=mask.numpy(),
        probability=probability.numpy(),
        uncertainty=entropy.numpy(),
        samples=members.numpy(),
        raters=like.raters,
        reference=like.reference,
        images=like.images,
        subjects=like.subjects,
        spacing=like.spacing,
        id2label=like.id2label,
    )
