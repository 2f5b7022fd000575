"""LoRA adapters of a segmentation pipeline, which has two networks to adapt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from contracts.lora_contract import LoraContract, weights
from contracts.pipeline_contract import generator
from helpers.small_segmentation import joint_unet, pipeline_of, random_images
from peft import get_peft_model_state_dict
from torch import Tensor

from meddiffusers import SegmentationUNet

NOISE = torch.randn(4, 1, 8, 8, generator=generator(5))


@pytest.mark.slow
class TestSegmentationLora(LoraContract):
    last = "denoiser.conv_out"  # logits are affine in what an adapter adds here

    def build(self) -> Any:
        return pipeline_of()

    def build_plain(self) -> Any:
        return pipeline_of(joint_unet().requires_grad_(False))

    def sampled(self, pipeline: Any) -> np.ndarray:
        pipeline.set_progress_bar_config(disable=True)
        return pipeline(random_images(), num_inference_steps=2, ensemble_size=2, generator=generator(0)).probability

    @torch.no_grad()
    def predict(self, pipeline: Any) -> Tensor:
        return pipeline.unet(NOISE, 500, image=random_images()).logits

    def test_both_networks_are_adapted(self, loaded: Any) -> None:
        base = self.frozen().encode_image(random_images())
        assert not torch.allclose(loaded.encode_image(random_images()), base, atol=1e-3)
        names = get_peft_model_state_dict(loaded.unet, adapter_name="site")
        assert {name.split(".")[0] for name in names} == {"image_encoder", "denoiser"}

    def test_a_network_of_diffusers_becomes_one_that_takes_adapters(self) -> None:
        pipe = self.build_plain()
        own = pipeline_of(SegmentationUNet.from_unet(pipe.unet, mask_channels=pipe.mask_channels))
        base = self.sampled(own)
        np.testing.assert_array_equal(base, self.sampled(pipe))
        state = weights(self.adapted().unet)
        own.load_lora_weights({name: part for name, part in state.items() if name.startswith("unet.denoiser.down")})
        assert not np.allclose(self.sampled(own), base, atol=1e-3)
