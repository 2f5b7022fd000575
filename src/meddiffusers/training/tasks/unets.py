"""What the pixel-space diffusion tasks share: settings of a diffusers U-Net, its noise scheduler, LoRA adapters."""

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
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2")  # layers with nearly all weights


@dataclass
class UNetConfig:
    """Settings of the denoiser, and of the repository or adapter that training starts from."""

    pretrained_model_name_or_path: str | None = setting(None, "Repository or folder of the model to start from.")
    revision: str | None = setting(None, "Branch, tag or commit of that repository.")
    rank: int | None = setting(None, "Rank of a LoRA adapter; with it, only the adapter is trained.")
    lora_alpha: int | None = setting(None, "Alpha of the adapter, whose scale is alpha / rank; by default the rank.")

    patch_size: int = setting(2, "Side of the square patches of pixels that the network takes as channels.")
    block_out_channels: list[int] = list_setting([32, 64, 96], "Number of channels of each level of the denoiser.")
    layers_per_block: int = setting(1, "Number of residual blocks in each level.")
    attention_levels: list[int] = list_setting([], "Levels of the denoiser with attention, counted from 0.")
    attention_head_dim: int | None = setting(None, "Channels of an attention head; by default there is one head.")
    norm_num_groups: int = setting(16, "Number of groups in the group normalisation.")

    def network_settings(self, channels: list[int], attention_levels: list[int]) -> dict[str, Any]:
        """Settings of a `UNet2DModel` with these channels, and attention at these levels."""
        down = ["AttnDownBlock2D" if level in attention_levels else "DownBlock2D" for level in range(len(channels))]
        return {
            "block_out_channels": channels,
            "down_block_types": down,
            "up_block_types": [name.replace("Down", "Up") for name in reversed(down)],
            "layers_per_block": self.layers_per_block,
            "attention_head_dim": self.attention_head_dim,
            "norm_num_groups": self.norm_num_groups,
        }


def check_adapter_has_base(rank: int | None, pretrained: str | None) -> None:
    """Raise ValueError for an adapter without a model that it adapts."""
    if rank and not pretrained:
        raise ValueError(
            f"rank={rank} but pretrained_model_name_or_path is not set; an adapter needs a trained model: give "
            "--pretrained_model_name_or_path REPOSITORY."
        )


def check_same_data(name: str, theirs: Mapping[str, Any], data: Any) -> None:
    """Raise ValueError where a repository was trained for other data than the configured ones."""
    differing = [
        f"{key} {value!r} (here {getattr(data, key)!r})" for key, value in theirs.items() if getattr(data, key) != value
    ]
    if differing:
        raise ValueError(f"{name} has {', '.join(differing)}. Configure the same to start from it.")


def build_noise_scheduler(prediction_type: str, variance_type: str) -> DDIMScheduler | DDPMScheduler:
    """The noise schedule of Ho et al. 2020: DDIM, or, for a learnt variance, DDPM, which alone uses it."""
    settings: dict[str, Any] = {
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "prediction_type": prediction_type,
        "timestep_spacing": "trailing",
    }
    if variance_type == "learned_range":
        return DDPMScheduler(**settings, variance_type="learned_range")
    return DDIMScheduler(**settings)


def add_adapter(unet: Any, rank: int, alpha: int | None, layers: Sequence[str] = LORA_TARGETS) -> None:
    """Add a LoRA adapter to a model and freeze everything else.

    Args:
        unet: The model, with diffusers' `add_adapter`.
        rank: Rank of the adapter.
        alpha: Its scale is alpha / rank; None for a scale of 1.
        layers: Names of the layers to adapt.
    """
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=alpha or rank, target_modules=list(layers)))


def save_adapter(pipeline: Any, folder: Path) -> None:
    """Save the adapter of a pipeline's U-Net in half precision, for `load_lora_weights`."""
    layers = {name: tensor.to(torch.float16) for name, tensor in get_peft_model_state_dict(pipeline.unet).items()}
    metadata = pipeline.unet.peft_config["default"].to_dict()  # without it, the rank would be loaded as alpha
    pipeline.save_lora_weights(folder, unet_lora_layers=layers, unet_lora_adapter_metadata=metadata)


@torch.no_grad()
def round_to_fp16(module: nn.Module) -> None:
    """Round the trained weights to half precision, so that the metrics are those of the saved file."""
    for trained in (weight for weight in module.parameters() if weight.requires_grad):
        trained.copy_(trained.half())
