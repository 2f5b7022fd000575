"""LoRA adapters of the denoiser of the anomaly detection pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from contracts.lora_contract import LoraContract
from contracts.pipeline_contract import generator, seeded
from diffusers import UNet2DModel
from helpers.small_segmentation import NETWORK, random_images
from torch import Tensor

from meddiffusers import AnomalyDetectionPipeline, PatchUNet2DModel, ReversibleDDIMScheduler

NOISE = torch.randn(4, 4, 8, 8, generator=generator(5))


@pytest.mark.slow
class TestAnomalyLora(LoraContract):
    last = "conv_out"
    rounding = 2e-4  # the first step, at t = 899, computes x̂ = (x − σ ε) / a, which multiplies errors by σ / a = 60

    def build(self) -> Any:
        with seeded():
            unet = PatchUNet2DModel(in_channels=4, sample_size=8, network=NETWORK).eval()
        return AnomalyDetectionPipeline(unet, ReversibleDDIMScheduler())

    def build_plain(self) -> Any:
        with seeded():
            unet = UNet2DModel(sample_size=8, in_channels=4, out_channels=4, **NETWORK)
        return AnomalyDetectionPipeline(unet.requires_grad_(False).eval(), ReversibleDDIMScheduler())

    def sampled(self, pipeline: Any) -> np.ndarray:
        pipeline.set_progress_bar_config(disable=True)
        settings = {"method": "none", "encoding": "noise", "num_inference_steps": 2, "strength": 0.9}
        return pipeline(random_images(), generator=generator(0), **settings).counterfactual

    @torch.no_grad()
    def predict(self, pipeline: Any) -> Tensor:
        return pipeline.predict(NOISE, 500)
