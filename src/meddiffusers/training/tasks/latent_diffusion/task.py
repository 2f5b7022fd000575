"""Training task of a latent diffusion model: what does not depend on the conditioning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn

from meddiffusers.pipelines.latent_diffusion_pipeline import LatentDiffusionPipeline
from meddiffusers.pipelines.meddiffusers_latents_v1 import normalize_latents
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.losses.diffusion import denoising_loss
from meddiffusers.training.tasks.latent_diffusion.model import LatentDiffusionConfig
from meddiffusers.training.tasks.unets import add_adapter, round_to_fp16, save_adapter

LORA_TARGETS = ("to_q", "to_k", "to_v", "out_proj", "conv1.conv", "conv2.conv")  # layers of MONAI's network


class LatentDiffusionTask:
    """Base of tasks that train a `LatentDiffusionPipeline`.

    A subclass loads the data and implements `conditions`. The autoencoder is not trained.

    Args:
        pipeline: The pipeline before training.
        config: Settings of the denoiser and of the loss.
    """

    def __init__(self, pipeline: LatentDiffusionPipeline, config: LatentDiffusionConfig) -> None:
        self.pipeline, self.config = pipeline, config
        self.pipeline.to(PartialState().device)  # the engine moves only what is trained
        self.pipeline.vae.requires_grad_(False)
        if config.rank:
            add_adapter(self.pipeline.unet, config.rank, config.lora_alpha, LORA_TARGETS)
        flow = config.prediction_type == "flow"
        self.noise_scheduler = None if flow else DDPMScheduler.from_config(self.pipeline.scheduler.config)

    @property
    def modules(self) -> Mapping[str, Any]:
        """The denoiser."""
        return {"unet": self.pipeline.unet}

    def collate(self, items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Mean and standard deviation of the latents, (B, 2c, …), and the conditions."""
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def conditions(self, batch: dict[str, Tensor], random: BatchRandom) -> dict[str, Tensor]:
        """The conditions as arguments of the network, with some of them dropped for classifier-free guidance."""
        raise NotImplementedError

    def loss(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Tensor], random: BatchRandom
    ) -> dict[str, Tensor]:
        """The squared error at random times."""
        mean, std = batch["moments"].chunk(2, dim=1)
        x0 = normalize_latents(self.pipeline.vae, mean + std * random.randn_like(mean))

        def predict(x_t: Tensor, times: Tensor) -> Tensor:
            return modules["unet"](x_t, times, **self.conditions(batch, random)).sample.float()

        return denoising_loss(self.noise_scheduler, predict, x0, random, self.config.snr_gamma)

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> LatentDiffusionPipeline:
        """The pipeline with the trained network, rounded to half precision if it is saved so."""
        if self.config.save_in_fp16:
            round_to_fp16(modules["unet"])
        return self.with_unet(modules["unet"])

    def save(self, pipeline: LatentDiffusionPipeline, folder: Path) -> None:
        """Save the whole pipeline, or only the adapter if one was trained."""
        if self.config.rank:
            save_adapter(pipeline, folder)
        else:
            pipeline.save_pretrained(folder)

    def with_unet(self, unet: nn.Module) -> LatentDiffusionPipeline:
        """The pipeline with this network."""
        pipeline = LatentDiffusionPipeline.from_pipe(self.pipeline, unet=unet)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
