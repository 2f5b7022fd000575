"""The learning problem of a latent diffusion model, for the engine: what is the same whatever it is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from diffusers import DDPMScheduler
from torch import Tensor, nn

from meddiffusers.pipelines.latent_diffusion_pipeline import LatentDiffusionPipeline
from meddiffusers.pipelines.meddiffusers_latents_v1 import normalize_latents
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.losses.diffusion import denoising_loss
from meddiffusers.training.tasks.latent_diffusion.model import LatentDiffusionConfig
from meddiffusers.training.tasks.unets import add_adapter, round_to_half, save_adapter

ADAPTED = ("to_q", "to_k", "to_v", "out_proj", "conv1.conv", "conv2.conv")  # layers of MONAI's network


class LatentDiffusionTask:
    """A subclass has the data, and says by `told` what the network is told of a batch."""

    def __init__(self, pipeline: LatentDiffusionPipeline, config: LatentDiffusionConfig) -> None:
        self.pipeline, self.config = pipeline, config
        self.pipeline.to(PartialState().device)  # where the engine takes what is trained; the fixed part goes along
        self.pipeline.vae.requires_grad_(False)
        if config.rank:
            add_adapter(self.pipeline.unet, config.rank, config.lora_alpha, ADAPTED)
        flow = config.prediction_type == "flow"
        self.noise = None if flow else DDPMScheduler.from_config(self.pipeline.scheduler.config)

    @property
    def modules(self) -> Mapping[str, Any]:
        """The denoiser."""
        return {"unet": self.pipeline.unet}

    def collate(self, items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Moments (B, 2c, …), and what is known of each."""
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def told(self, batch: dict[str, Tensor], random: BatchRandom) -> dict[str, Tensor]:
        """What the network is told, some of which is left out."""
        raise NotImplementedError

    def loss(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Tensor], random: BatchRandom
    ) -> dict[str, Tensor]:
        """The squared error of what the network predicts of noisy latents."""
        mean, deviation = batch["moments"].chunk(2, dim=1)
        x0 = normalize_latents(self.pipeline.vae, mean + deviation * random.randn_like(mean))

        def predicted(x: Tensor, times: Tensor) -> Tensor:
            return modules["unet"](x, times, **self.told(batch, random)).sample.float()

        return denoising_loss(self.noise, predicted, x0, random, self.config.snr_gamma)

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> LatentDiffusionPipeline:
        """The pipeline around what was trained, whose weights are rounded if they are to be stored so."""
        if self.config.save_in_fp16:
            round_to_half(modules["unet"])
        return self.with_unet(modules["unet"])

    def save(self, pipeline: LatentDiffusionPipeline, folder: Path) -> None:
        """The whole pipeline, or the adapter alone where one was trained."""
        if self.config.rank:
            save_adapter(pipeline, folder)
        else:
            pipeline.save_pretrained(folder)

    def with_unet(self, unet: nn.Module) -> LatentDiffusionPipeline:
        """The pipeline around another network."""
        pipeline = LatentDiffusionPipeline.from_pipe(self.pipeline, unet=unet)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
