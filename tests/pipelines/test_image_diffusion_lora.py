"""LoRA adapters of the image diffusion pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from contracts.lora_contract import LoraContract, weights
from contracts.pipeline_contract import generator, seeded
from diffusers import DDIMScheduler, UNet2DModel
from helpers.small_segmentation import NETWORK, SCHEDULE
from torch import Tensor

from meddiffusers import ImageDiffusionPipeline, PatchUNet2DModel

NOISE = torch.randn(4, 4, 8, 8, generator=generator(5))


def pipeline_of(unet: Any) -> ImageDiffusionPipeline:
    pipeline = ImageDiffusionPipeline(unet, DDIMScheduler(**SCHEDULE))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.slow
class TestImageDiffusionLora(LoraContract):
    last = "conv_out"

    def build(self) -> Any:
        with seeded():
            return pipeline_of(PatchUNet2DModel(in_channels=4, sample_size=8, network=NETWORK).eval())

    def build_plain(self) -> Any:
        with seeded():
            unet = UNet2DModel(sample_size=8, in_channels=4, out_channels=4, **NETWORK)
        return pipeline_of(unet.requires_grad_(False).eval())

    def sampled(self, pipeline: Any) -> np.ndarray:
        pipeline.set_progress_bar_config(disable=True)
        return pipeline(2, num_inference_steps=2, generator=generator(0)).images

    @torch.no_grad()
    def predict(self, pipeline: Any) -> Tensor:
        return pipeline.unet(NOISE, 500).sample

    def test_a_network_of_diffusers_becomes_one_that_takes_adapters(self) -> None:
        pipe = self.build_plain()
        own = pipeline_of(PatchUNet2DModel.from_unet(pipe.unet))
        base = self.sampled(own)
        np.testing.assert_array_equal(base, self.sampled(pipe))
        own.load_lora_weights(weights(self.adapted().unet))
        assert not np.allclose(self.sampled(own), base, atol=1e-3)
