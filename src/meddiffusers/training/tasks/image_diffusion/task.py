"""Training task of a diffusion model of images, unconditional or conditioned on the label healthy or diseased."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import datasets
import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn

from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.datasets.rows import images_of
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.generation.fidelity import evaluate_generation, generate_images
from meddiffusers.evaluation.report import Report
from meddiffusers.pipelines.image_diffusion_pipeline import ImageDiffusionPipeline
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.engine.task import Validation
from meddiffusers.training.losses.augmentation import drop_modalities, random_flip
from meddiffusers.training.losses.diffusion import hybrid_loss, importance_timesteps, stratified_timesteps
from meddiffusers.training.tasks.image_diffusion.model import ImageDiffusionConfig, build_image_pipeline
from meddiffusers.training.tasks.labelled_slices import LabelledSliceTask
from meddiffusers.training.tasks.unets import add_adapter, round_to_fp16, save_adapter

NUM_FIGURE, NUM_EVALUATED = 8, 256  # generated images in a validation's figure, and for the metrics


class ImageDiffusionTask(LabelledSliceTask):
    """Trains an `ImageDiffusionPipeline`.

    The only augmentations are random flips and dropped modalities, so that generated images look like the training
    images. With labels, an image with any foreground is diseased, and some labels are dropped (Ho & Salimans 2022).

    Args:
        data: Settings of the data set.
        config: Settings of the network and of the loss.
        splits: The splits "train" and "test", if they are loaded already.

    Raises:
        ValueError: As `build_image_pipeline` and `load_labelled_data`.
    """

    def __init__(
        self,
        data: LabelledDataConfig,
        config: ImageDiffusionConfig,
        splits: Mapping[str, datasets.Dataset] | None = None,
    ) -> None:
        self.config = config
        self.pipeline = build_image_pipeline(data, config)
        self.unet = self.pipeline.unet
        if config.rank:
            add_adapter(self.unet, config.rank, config.lora_alpha)
        self.noise_scheduler = DDPMScheduler.from_config(self.pipeline.scheduler.config)
        super().__init__(data, splits)

    @property
    def modules(self) -> Mapping[str, ModelMixin]:
        """The U-Net."""
        return {"unet": self.unet}

    def loss(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Tensor], random: BatchRandom
    ) -> dict[str, Tensor]:
        """The squared error, and the variational bound of a learnt variance."""
        image, masks = random_flip(batch["image"], batch["masks"], random)
        image = drop_modalities(image, self.config.modality_dropout, random)
        low, high = self.pipeline.image_range
        x0 = low + (high - low) * image
        low_time, high_time = self.config.importance_range
        times = stratified_timesteps(len(x0), 1, random)
        times = importance_timesteps(times, low_time, high_time, self.config.importance_share)
        timesteps = (times * self.noise_scheduler.config["num_train_timesteps"]).long()
        noise = random.randn_like(x0)
        x_t = self.noise_scheduler.add_noise(x0, noise, timesteps)
        predicted = modules["unet"](x_t, timesteps, self._labels(masks, random)).sample.float()
        return hybrid_loss(self.noise_scheduler, predicted, x0, noise, x_t, timesteps, self.config.snr_gamma)

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        """A figure of generated images, from the same noise each time."""
        images = generate_images(self._with_unet(modules["unet"]), NUM_FIGURE, seed=0)
        rows = {name: images[:, channel] for channel, name in enumerate(self.pipeline.modalities)}
        return Validation({}, {"generated": panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0)))})

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> ImageDiffusionPipeline:
        """The pipeline with the trained network, rounded to half precision if it is saved so."""
        if self.config.save_in_fp16:
            round_to_fp16(modules["unet"])
        return self._with_unet(modules["unet"])

    def save(self, pipeline: ImageDiffusionPipeline, folder: Path) -> None:
        """Save the whole pipeline, or only the adapter if one was trained."""
        if self.config.rank:
            save_adapter(pipeline, folder)
        else:
            pipeline.save_pretrained(folder)

    def evaluate(self, pipeline: ImageDiffusionPipeline, seed: int = 0) -> Report:
        """Metrics and figures of generated images, compared with the test images."""
        held_out, train = (images_of(self.splits[name]) for name in ("test", "train"))
        images = generate_images(pipeline, NUM_EVALUATED, seed=seed)
        dataset = f"{self.dataset_name}, test subjects"
        return evaluate_generation(images, held_out, train, pipeline.modalities, dataset=dataset, seed=seed)

    def _labels(self, masks: Tensor, random: BatchRandom) -> Tensor | None:
        """Label ids (B,), of which some are dropped; None for an unconditional network."""
        no_label = len(self.pipeline.unet.id2label)
        if not no_label or self.config.label_dropout is None:
            return None
        diseased = masks.flatten(1).any(dim=1).long()
        dropped = (random.rand(len(masks)) < self.config.label_dropout).to(masks.device)
        return torch.where(dropped, no_label, diseased)

    def _with_unet(self, unet: nn.Module) -> ImageDiffusionPipeline:
        known = {name: self.pipeline.config[name] for name in ("modalities", "spacing", "image_range")}
        pipeline = ImageDiffusionPipeline(unet, self.pipeline.scheduler, **known)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
