"""What every denoiser here is made of: a diffusers U-Net's settings, the paper's noise, an adapter to be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import nn

from meddiffusers.utils.settings import Range, list_setting, setting

_COUNT = Range(1)
UNET_RANGES = {
    "rank": _COUNT,
    "lora_alpha": _COUNT,
    "patch_size": _COUNT,
    "layers_per_block": _COUNT,
    "attention_head_dim": _COUNT,
    "norm_num_groups": _COUNT,
}
ADAPTED = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2")  # layers that get an adapter: nearly all weights


@dataclass
class UNetConfig:
    """The denoiser, and where it starts from."""

    pretrained_model_name_or_path: str | None = setting(None, "Repository or folder to start from.")
    revision: str | None = setting(None, "Branch, tag or commit of that repository.")
    rank: int | None = setting(None, "Train a LoRA adapter of this rank, and nothing else.")
    lora_alpha: int | None = setting(None, "Scale of the adapter, over its rank; the rank itself if not given.")

    patch_size: int = setting(2, "Pixels of each side that the networks see as one.")
    block_out_channels: list[int] = list_setting([32, 64, 96], "Channels of the denoiser's levels.")
    layers_per_block: int = setting(1, "Residual blocks of a level.")
    attention_levels: list[int] = list_setting([], "Levels of the denoiser with attention, counted from 0.")
    attention_head_dim: int | None = setting(None, "Channels of an attention head; one head if not given.")
    norm_num_groups: int = setting(16, "Groups of the normalisation.")

    def settings(self, channels: list[int], attention_levels: list[int]) -> dict[str, Any]:
        """Of a `UNet2DModel` with as many levels, attention at some of them."""
        down = ["AttnDownBlock2D" if level in attention_levels else "DownBlock2D" for level in range(len(channels))]
        return {
            "block_out_channels": channels,
            "down_block_types": down,
            "up_block_types": [name.replace("Down", "Up") for name in reversed(down)],
            "layers_per_block": self.layers_per_block,
            "attention_head_dim": self.attention_head_dim,
            "norm_num_groups": self.norm_num_groups,
        }

    def check_start(self) -> None:
        """ValueError for an adapter of nothing."""
        if self.rank and not self.pretrained_model_name_or_path:
            raise ValueError(
                f"rank={self.rank} but pretrained_model_name_or_path is not set; an adapter changes weights that there "
                "are: give --pretrained_model_name_or_path REPOSITORY."
            )


def check_same(name: str, theirs: Mapping[str, Any], data: Any) -> None:
    """ValueError where a repository was made for other data than those that are configured."""
    differing = [
        f"{key} {value!r} (here {getattr(data, key)!r})" for key, value in theirs.items() if getattr(data, key) != value
    ]
    if differing:
        raise ValueError(f"{name} has {', '.join(differing)}. Configure the same to start from it.")


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


def add_adapter(unet: Any, rank: int, alpha: int | None, layers: Sequence[str] = ADAPTED) -> None:
    """Adds a LoRA adapter to a model, the only thing left to train; its scale is alpha / rank, 1 if not given."""
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=alpha or rank, target_modules=list(layers)))


def save_adapter(pipeline: Any, folder: Path) -> None:
    """Writes the adapter of a pipeline's unet as `load_lora_weights` reads it, in half precision."""
    layers = {name: tensor.to(torch.float16) for name, tensor in get_peft_model_state_dict(pipeline.unet).items()}
    scale = pipeline.unet.peft_config["default"].to_dict()  # without it the adapter would load with its rank as α
    pipeline.save_lora_weights(folder, unet_lora_layers=layers, unet_lora_adapter_metadata=scale)


@torch.no_grad()
def round_to_half(module: nn.Module) -> None:
    """Rounds what was trained to what half precision stores, so that metrics are those of the file."""
    for trained in (weight for weight in module.parameters() if weight.requires_grad):
        trained.copy_(trained.half())
