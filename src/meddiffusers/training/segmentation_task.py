"""The learning problem of a conditional segmentation diffusion model, for the engine.

A picture b has masks of one or more raters. In each of `noise_draws` draws a rater's mask x_0 (one-hot, in
`mask_range`), a time t and noise ε are drawn, and the network D(x_t, t, b) is to predict ε, x_0 or v
(`prediction_type`) with squared error, weighted by min-SNR if wanted. Since each draw has another rater's mask, samples
come to differ as the raters do. With `variance_type: learned_range` the variational bound trains the variance too, as
in Wolleb et al. 2022. Sequences are left out at random, so that a missing one is an input like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from meddiffusers.evaluation.panels import panel
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.segmentation_report import evaluate_segmentation
from meddiffusers.evaluation.segmentation_run import run_segmentation
from meddiffusers.pipelines.conditional_segmentation_pipeline import ConditionalSegmentationPipeline
from meddiffusers.training.augmentation import moved, recoloured, without_some
from meddiffusers.training.diffusion_losses import (
    VARIATIONAL_WEIGHT,
    denoising_target,
    min_snr_weights,
    variational_bound,
)
from meddiffusers.training.randomness import BatchRandom
from meddiffusers.training.segmentation_data import SegmentationDataConfig, SegmentationImages, load_segmentation_data
from meddiffusers.training.segmentation_model import SegmentationModelConfig, add_adapter, first_pipeline, save_adapter
from meddiffusers.training.task import Validation

VALIDATED, SHOWN = 48, 8  # test pictures of a validation, and those of them that it draws


class SegmentationTask:
    """Builds the model and its data; see the module for the loss."""

    def __init__(self, data: SegmentationDataConfig, config: SegmentationModelConfig) -> None:
        self.config = config
        self.pipeline = first_pipeline(data, config)
        self.unet = self.pipeline.unet
        if config.rank:
            add_adapter(self.unet, config.rank, config.lora_alpha)
        self.noise = DDPMScheduler.from_config(self.pipeline.scheduler.config)
        self.splits = load_segmentation_data(data)
        self.train_dataset = SegmentationImages(self.splits["train"])
        self.pipeline.preprocess(self.train_dataset[0]["image"])  # a wrong size shows before any work
        self.dataset_name = Path(data.dataset_name).name  # a folder's place is nobody's business

    @property
    def modules(self) -> Mapping[str, ModelMixin]:
        """The one network."""
        return {"unet": self.unet}

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Images (B, C, H, W) in [0, 1] and label ids of all raters (B, R, H, W)."""
        return {name: torch.stack([item[name] for item in items]) for name in ("image", "masks")}

    def loss(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Tensor], random: BatchRandom
    ) -> dict[str, Tensor]:
        """The weighted squared error, with the variational bound where the variance is learnt."""
        image, masks = self.augmented(batch, self.config.noise_draws, random)
        x0 = self._in_range(masks)
        timesteps = _spread_timesteps(
            len(image), self.config.noise_draws, self.noise.config.num_train_timesteps, random
        )
        noise = random.randn_like(x0)
        x_t = self.noise.add_noise(x0, noise, timesteps)
        predicted = modules["unet"](x_t, timesteps, image=image).sample.float()
        error = predicted[:, : x0.shape[1]] - denoising_target(self.noise, x0, noise, timesteps)
        squared = error.square().flatten(1).mean(dim=1)
        terms = {"mse": squared.mean()}
        if self.config.snr_gamma is not None:
            squared = squared * min_snr_weights(self.noise, timesteps, self.config.snr_gamma)
        total = squared.mean()
        if predicted.shape[1] > x0.shape[1]:
            terms["bound"] = variational_bound(self.noise, predicted, x0, x_t, timesteps).mean()
            total = total + VARIATIONAL_WEIGHT * self.noise.config.num_train_timesteps * terms["bound"]
        return {"loss": total, **terms}

    def augmented(self, batch: dict[str, Tensor], draws: int, random: BatchRandom) -> tuple[Tensor, Tensor]:
        """Changed images (B, C, H, W), and label ids (B·draws, H, W) of a rater drawn anew for each draw."""
        image, masks = moved(batch["image"], batch["masks"], random)
        image = without_some(recoloured(image, random), self.config.sequence_dropout, random)
        return image, _one_rater_a_draw(masks, draws, random)

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        """Dice of one member on test pictures, and some of them beside their masks."""
        rows = self.splits["test"].select(range(min(VALIDATED, len(self.splits["test"]))))
        result = run_segmentation(self._with(modules["unet"]), rows, ensemble_size=1)
        overlap = 2 * ((result.mask > 0) & (result.reference > 0)).sum(axis=(1, 2))
        size = (result.mask > 0).sum(axis=(1, 2)) + (result.reference > 0).sum(axis=(1, 2))
        shown = np.argsort(-result.area, kind="stable")[:SHOWN]
        pictures = {name: getattr(result, name)[shown] for name in ("images", "reference", "mask")}
        known = result.area > 0
        dice = float((overlap[known] / size[known]).mean()) if known.any() else 0.0
        return Validation({"dice": dice}, {"segmentation": panel(pictures)})

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> ConditionalSegmentationPipeline:
        """The pipeline around the trained network."""
        return self._with(modules["unet"])

    def save(self, pipeline: ConditionalSegmentationPipeline, folder: Path) -> None:
        """The whole pipeline, or the adapter alone where one was trained."""
        if self.config.rank:
            save_adapter(pipeline, folder)
        else:
            pipeline.save_pretrained(folder)

    def evaluate(self, pipeline: ConditionalSegmentationPipeline, seed: int = 0) -> Report:
        """Figures and pictures of the trained pipeline on the test pictures."""
        result = run_segmentation(pipeline, self.splits["test"], seed=seed)
        return evaluate_segmentation(result, dataset=f"{self.dataset_name}, test subjects", seed=seed)

    def _with(self, unet: nn.Module) -> ConditionalSegmentationPipeline:
        known = {name: self.pipeline.config[name] for name in ("sequences", "id2label", "spacing", "mask_range")}
        pipeline = ConditionalSegmentationPipeline(unet, self.pipeline.scheduler, **known)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _in_range(self, labels: Tensor) -> Tensor:
        """Label ids (B, H, W) as masks (B, K, H, W) of the values that the model takes for 0 and 1."""
        low, high = self.pipeline.config["mask_range"]
        count = self.pipeline.mask_channels
        hot = labels[:, None] if count == 1 else F.one_hot(labels.long(), count).movedim(-1, 1)
        return low + (high - low) * hot.float()


def _one_rater_a_draw(masks: Tensor, draws: int, random: BatchRandom) -> Tensor:
    """Of the raters' label maps (B, R, H, W) one, at random, for each draw: (B·draws, H, W)."""
    batch, raters = masks.shape[:2]
    chosen = random.randint(0, raters, (batch, draws))
    return masks[torch.arange(batch, device=masks.device)[:, None], chosen].flatten(0, 1)


def _spread_timesteps(batch: int, draws: int, count: int, random: BatchRandom) -> Tensor:
    """(B·draws,) each uniform on 0 … count − 1, those of one picture evenly apart: fewer chance ups and downs."""
    first = random.rand(batch, 1)
    apart = torch.arange(draws, device=first.device) / draws
    return ((first + apart) % 1 * count).long().clamp_max(count - 1).flatten()
