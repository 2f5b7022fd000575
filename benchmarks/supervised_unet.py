"""Baseline of the segmentation benchmark: a supervised U-Net of equal size, with the same images and training time.

The shipped model may have been trained on another machine. Therefore the steps of both networks are timed here, and the
U-Net gets as many steps as fit into the shipped model's training time.
"""

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

from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE
from meddiffusers.evaluation.segmentation.result import SegmentationResult
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.loop import TrainingResult, train
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.engine.task import Validation
from meddiffusers.training.tasks.segmentation.loss import label_loss
from meddiffusers.training.tasks.segmentation.model import SegmentationModelConfig
from meddiffusers.training.tasks.segmentation.task import SegmentationTask
from meddiffusers.utils.atomic import write_json

CONFIG = "training/configs/segmentation_brain.yaml"
RUN = Path("runs/segmentation-unet")
CHANNELS = [32, 64, 96, 160]  # 4.58 M parameters; so has the shipped model
PROBED = (5, 35)  # steps of two short runs, whose difference tells how long a step takes
BATCH, PATCH = 32, 2


class SupervisedTask(SegmentationTask):
    """Cross-entropy and Dice against the mask of a random rater, as for the shipped model's image encoder."""

    def __init__(
        self,
        data: LabelledDataConfig,
        config: SegmentationModelConfig,
        channels: list[int],
        splits: Mapping[str, datasets.Dataset] | None = None,
    ) -> None:
        super().__init__(data, config, splits)
        count = len(channels)
        labels = 1 + len(data.classes)
        self.unet = UNet2DModel(
            sample_size=data.resolution // PATCH,
            in_channels=len(data.modalities) * PATCH**2,
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
        image, masks = self.diffusion_loss.augment(batch, 1, random)
        return {"loss": label_loss(logits(modules["unet"], image).float(), masks, self.config.dice_weight)}

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        return Validation()

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> Any:
        return extract_model_from_parallel(modules["unet"], keep_fp32_wrapper=False)

    def save(self, pipeline: Any, folder: Path) -> None:
        pipeline.save_pretrained(folder)


def trained_baseline() -> tuple[UNet2DModel, dict[str, float]]:
    """The U-Net and how it was trained: seconds a step of both, its steps and minutes."""
    done = RUN / "facts.json"
    if not done.is_file():
        facts = {name: _seconds_a_step(name) for name in ("shipped", "U-Net")}
        steps = round(configured()[2].max_train_steps * facts["shipped"] / facts["U-Net"])
        result = _train("U-Net", RUN, max_train_steps=steps, resume_from_checkpoint="latest")
        facts = {f"seconds a step, {name}": seconds for name, seconds in facts.items()}
        write_json(done, {**facts, "steps": result.step, "minutes": result.seconds / 60})
    return UNet2DModel.from_pretrained(RUN).eval(), json.loads(done.read_text())


def configured() -> tuple[LabelledDataConfig, SegmentationModelConfig, TrainingConfig]:
    return parse_config(LabelledDataConfig, SegmentationModelConfig, TrainingConfig, argv=["--config", CONFIG])


def _seconds_a_step(name: str) -> float:
    few, more = (_train(name, RUN / f"probe-{name}-{steps}", max_train_steps=steps).seconds for steps in PROBED)
    return (more - few) / (PROBED[1] - PROBED[0])


def _train(name: str, folder: Path, **settings: Any) -> TrainingResult:
    """By the configuration of the shipped model."""
    data, model, training = configured()
    set_seed(training.seed)
    task = SupervisedTask(data, model, CHANNELS) if name == "U-Net" else SegmentationTask(data, model)
    return train(task, replace(training, output_dir=str(folder), validation_steps=None, **settings))


def logits(unet: nn.Module, image: Tensor) -> Tensor:
    """(B, L, H, W) of images (B, C, H, W)."""
    return F.pixel_shuffle(unet(F.pixel_unshuffle(image, PATCH), 0).sample, PATCH)


@torch.inference_mode()
def run_supervised(
    unet: UNet2DModel, rows: datasets.Dataset, like: SegmentationResult, samples: int, seed: int = 0
) -> SegmentationResult:
    """Segment the rows of `like` with the U-Net; its samples are independent per pixel, from the softmax."""
    images = torch.from_numpy(np.stack(rows.with_format("numpy")["image"]).astype(np.float32) / INTENSITY_SCALE)
    probability = torch.cat([logits(unet, part).softmax(dim=1) for part in images.split(BATCH)])
    foreground = 1 - probability[:, 0] > 0.5
    mask = torch.where(foreground, probability[:, 1:].argmax(dim=1) + 1, 0).byte()
    distribution = torch.distributions.Categorical(probs=probability.movedim(1, -1))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        members = distribution.sample((samples,)).movedim(0, 1).byte()
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
