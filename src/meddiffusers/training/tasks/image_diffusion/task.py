"""The learning problem of an unconditional diffusion model of images, for the engine: model, data, validation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import datasets
import torch
from diffusers import DDPMScheduler
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.datasets.rows import images_of
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.generation.fidelity import evaluate_generation, generate_images
from meddiffusers.evaluation.report import Report
from meddiffusers.pipelines.image_diffusion_pipeline import ImageDiffusionPipeline
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.engine.task import Validation
from meddiffusers.training.losses.augmentation import drop_modalities, mirrored
from meddiffusers.training.losses.diffusion import hybrid_loss, importance_timesteps, stratified_timesteps
from meddiffusers.training.tasks.image_diffusion.model import DenoisingModelConfig, first_pipeline
from meddiffusers.training.tasks.labelled_slices import SliceTask
from meddiffusers.training.tasks.unets import add_adapter, round_to_half, save_adapter

SHOWN = 8  # images that a validation draws
EVALUATED = 256  # images that the metrics are measured on


class DenoisingTask(SliceTask):
    """Builds the model and its data, unless these are given as `splits`.

    Images are mirrored at random, and no more: what is to be drawn are images as they are. With labels, a image
    of any foreground is diseased, and the label of a part of the images is left out (Ho and Salimans 2022).
    """

    def __init__(
        self,
        data: LabelledDataConfig,
        config: DenoisingModelConfig,
        splits: Mapping[str, datasets.Dataset] | None = None,
    ) -> None:
        self.config = config
        self.pipeline = first_pipeline(data, config)
        self.unet = self.pipeline.unet
        if config.rank:
            add_adapter(self.unet, config.rank, config.lora_alpha)
        self.noise = DDPMScheduler.from_config(self.pipeline.scheduler.config)
        super().__init__(data, splits)

    @property
    def modules(self) -> Mapping[str, ModelMixin]:
        """The one network."""
        return {"unet": self.unet}

    def loss(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Tensor], random: BatchRandom
    ) -> dict[str, Tensor]:
        """The squared error of what the network predicts, and the bound of a learnt variance."""
        image, masks = mirrored(batch["image"], batch["masks"], random)
        image = drop_modalities(image, self.config.modality_dropout, random)
        low, high = self.pipeline.image_range
        x0 = low + (high - low) * image
        first, last = self.config.focus_times
        times = importance_timesteps(stratified_timesteps(len(x0), 1, random), first, last, self.config.focus_share)
        timesteps = (times * self.noise.config.num_train_timesteps).long()
        noise = random.randn_like(x0)
        x_t = self.noise.add_noise(x0, noise, timesteps)
        predicted = modules["unet"](x_t, timesteps, self._labels(masks, random)).sample.float()
        return hybrid_loss(self.noise, predicted, x0, noise, x_t, timesteps, self.config.snr_gamma)

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        """Some images, the same noise each time."""
        images = generate_images(self._with(modules["unet"]), SHOWN, seed=0)
        rows = {name: images[:, channel] for channel, name in enumerate(self.pipeline.modalities)}
        return Validation({}, {"drawn": panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0)))})

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> ImageDiffusionPipeline:
        """The pipeline around the trained network, whose weights are rounded if they are to be stored so."""
        if self.config.save_in_fp16:
            round_to_half(modules["unet"])
        return self._with(modules["unet"])

    def save(self, pipeline: ImageDiffusionPipeline, folder: Path) -> None:
        """The whole pipeline, or the adapter alone where one was trained."""
        if self.config.rank:
            save_adapter(pipeline, folder)
        else:
            pipeline.save_pretrained(folder)

    def evaluate(self, pipeline: ImageDiffusionPipeline, seed: int = 0) -> Report:
        """Metrics and images of what the trained pipeline draws, beside the test images."""
        held_out, known = (images_of(self.splits[name]) for name in ("test", "train"))
        images = generate_images(pipeline, EVALUATED, seed=seed)
        dataset = f"{self.dataset_name}, test subjects"
        return evaluate_generation(images, held_out, known, pipeline.modalities, dataset=dataset, seed=seed)

    def _labels(self, masks: Tensor, random: BatchRandom) -> Tensor | None:
        """(B,) ids, of which some are unknown; None for a network that knows no labels."""
        unknown = len(self.pipeline.unet.id2label)
        if not unknown or self.config.label_dropout is None:
            return None
        diseased = masks.flatten(1).any(dim=1).long()
        left_out = (random.rand(len(masks)) < self.config.label_dropout).to(masks.device)
        return torch.where(left_out, unknown, diseased)

    def _with(self, unet: nn.Module) -> ImageDiffusionPipeline:
        known = {name: self.pipeline.config[name] for name in ("modalities", "spacing", "image_range")}
        pipeline = ImageDiffusionPipeline(unet, self.pipeline.scheduler, **known)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
