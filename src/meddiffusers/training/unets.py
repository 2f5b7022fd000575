"""What every denoiser here is made of: a diffusers U-Net's settings, the paper's noise, an adapter to be trained."""

from __future__ import annotations

from typing import Any

from diffusers import DDIMScheduler, DDPMScheduler
from peft import LoraConfig

ADAPTED = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2")  # layers that get an adapter: nearly all weights


def unet_settings(
    channels: list[int], *, layers: int, attention_levels: list[int], head_dim: int | None, groups: int
) -> dict[str, Any]:
    """Settings of a `UNet2DModel`: blocks with attention at some levels, counted from 0."""
    down = ["AttnDownBlock2D" if level in attention_levels else "DownBlock2D" for level in range(len(channels))]
    return {
        "block_out_channels": channels,
        "down_block_types": down,
        "up_block_types": [name.replace("Down", "Up") for name in reversed(down)],
        "layers_per_block": layers,
        "attention_head_dim": head_dim,
        "norm_num_groups": groups,
    }


def noise_scheduler(prediction_type: str, variance_type: str) -> DDIMScheduler | DDPMScheduler:
    """The noise of Ho et al. 2020; DDIM from the last time on, or, for a learnt variance, DDPM, which alone uses it."""
    settings: dict[str, Any] = {
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "prediction_type": prediction_type,
        "timestep_spacing": "trailing",
    }
    if variance_type == "learned_range":
        return DDPMScheduler(**settings, variance_type="learned_range")
    return DDIMScheduler(**settings)


def add_adapter(unet: Any, rank: int, alpha: int | None) -> None:
    """Adds a LoRA adapter to a model, the only thing left to train; its scale is alpha / rank, 1 if not given."""
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=alpha or rank, target_modules=list(ADAPTED)))
