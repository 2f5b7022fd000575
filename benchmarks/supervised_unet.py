"""The baseline of the segmentation benchmark: a supervised U-Net of equal size, on the same pictures, for as long."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from accelerate.utils import extract_model_from_parallel, set_seed
from diffusers import UNet2DModel
from torch import Tensor, nn

from meddiffusers.data.segmentation_slices import INTENSITY_SCALE
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import write_json
from meddiffusers.evaluation.segmentation_result import SegmentationResult
from meddiffusers.training.config import TrainingConfig
from meddiffusers.training.engine import TrainingResult, train
from meddiffusers.training.mask_denoising import label_loss
from meddiffusers.training.parsing import parse_config
from meddiffusers.training.randomness import BatchRandom
from meddiffusers.training.segmentation_data import SegmentationDataConfig
from meddiffusers.training.segmentation_model import SegmentationModelConfig
from meddiffusers.training.segmentation_task import SegmentationTask
from meddiffusers.training.task import Validation

CONFIG = "training/configs/segmentation_brain.yaml"
RUN, CHECKPOINT = Path("runs/segmentation-unet"), Path("examples/checkpoints/seg-ddpm-brain")
CHANNELS = [32, 64, 96, 160]  # 4.58 M parameters; so has the shipped model
PROBED = (20, 80)  # steps of two short runs, whose difference tells how long a step takes
BATCH, PATCH = 32, 2


class SupervisedTask(SegmentationTask):
    """Cross-entropy and Dice to the mask of a rater drawn at random, as the shipped model's image network guesses."""

    def __init__(self, data: SegmentationDataConfig, config: SegmentationModelConfig, channels: list[int]) -> None:
        super().__init__(data, config)
        count = len(channels)
        labels = 1 + len(data.classes)
        self.unet = UNet2DModel(
            sample_size=data.resolution // PATCH,
            in_channels=len(data.sequences) * PATCH**2,
            out_channels=labels * PATCH**2,
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
        image, masks = self.denoising.augmented(batch, 1, random)
        return {"loss": label_loss(logits(modules["unet"], image).float(), masks, self.config.dice_weight)}

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        return Validation()

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> Any:
        return extract_model_from_parallel(modules["unet"], keep_fp32_wrapper=False)

    def save(self, pipeline: Any, folder: Path) -> None:
        pipeline.save_pretrained(folder)


def trained_baseline() -> tuple[UNet2DModel, float]:
    """The U-Net and the minutes it was trained for: as many as the shipped model, by the same configuration."""
    done = RUN / "minutes.json"
    if not done.is_file():
        minutes = Report.read(CHECKPOINT).run["training_minutes"]
        few, more = (_train(RUN / f"probe-{steps}", max_train_steps=steps).seconds for steps in PROBED)
        step = (more - few) / (PROBED[1] - PROBED[0])
        result = _train(RUN, max_train_steps=round(60 * minutes / step), resume_from_checkpoint="latest")
        write_json(done, {"minutes": result.seconds / 60, "steps": result.step})
    return UNet2DModel.from_pretrained(RUN).eval(), json.loads(done.read_text())["minutes"]


def _train(folder: Path, **settings: Any) -> TrainingResult:
    data, model, training = parse_config(
        SegmentationDataConfig, SegmentationModelConfig, TrainingConfig, argv=["--config", CONFIG]
    )
    set_seed(training.seed)
    task = SupervisedTask(data, model, CHANNELS)
    return train(task, replace(training, output_dir=str(folder), validation_steps=None, **settings))


def logits(unet: nn.Module, image: Tensor) -> Tensor:
    """(B, L, H, W) of images (B, C, H, W)."""
    return F.pixel_shuffle(unet(F.pixel_unshuffle(image, PATCH), 0).sample, PATCH)


@torch.inference_mode()
def run_supervised(
    unet: UNet2DModel, rows: datasets.Dataset, like: SegmentationResult, samples: int, seed: int = 0
) -> SegmentationResult:
    """What the U-Net says of the rows that `like` is of; its samples are drawn pixel by pixel from the softmax."""
    images = torch.from_numpy(np.stack(rows.with_format("numpy")["image"]).astype(np.float32) / INTENSITY_SCALE)
    probability = torch.cat([logits(unet, part).softmax(dim=1) for part in images.split(BATCH)])
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
