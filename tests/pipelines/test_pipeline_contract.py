"""The pipeline contract holds for a pipeline of diffusers itself, so what it asks is what users of diffusers know."""

from __future__ import annotations

from typing import Any

import torch
from contracts.pipeline_contract import DenoisingContract, PipelineContract, seeded
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

STOCHASTIC = DDPMScheduler(beta_schedule="scaled_linear", clip_sample=False)


class TestStableDiffusionXL(PipelineContract, DenoisingContract):
    """Prompts come as embeddings, so the optional text encoders are absent."""

    def build(self) -> StableDiffusionXLPipeline:
        with seeded():
            unet = UNet2DConditionModel(
                sample_size=4,
                block_out_channels=(4, 8),
                norm_num_groups=2,
                layers_per_block=1,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                cross_attention_dim=8,
                attention_head_dim=2,
                addition_embed_type="text_time",
                addition_time_embed_dim=2,
                projection_class_embeddings_input_dim=6 * 2 + 8,
            )
            vae = AutoencoderKL(
                block_out_channels=(4, 8),
                norm_num_groups=2,
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                sample_size=8,
            )
        return StableDiffusionXLPipeline(
            vae=vae.eval(),
            unet=unet.eval(),
            scheduler=DDPMScheduler.from_config(STOCHASTIC.config),
            text_encoder=None,
            text_encoder_2=None,
            tokenizer=None,
            tokenizer_2=None,
        )

    def arguments(self, batch_size: int) -> dict[str, Any]:
        return {
            "prompt_embeds": torch.ones(batch_size, 3, 8),
            "pooled_prompt_embeds": torch.ones(batch_size, 8),
            "guidance_scale": 1.0,
            "height": 8,
            "width": 8,
        }

    def images(self, pipeline: Any, batch_size: int = 2, **kwargs: Any) -> Any:
        return super().images(pipeline, batch_size, **{"num_inference_steps": 2, **kwargs})
