"""Classify noisy images at any noise level. The gradient of the classifier guides a diffusion model.

Dhariwal and Nichol 2021, "Diffusion models beat GANs on image synthesis", section 4: the descending half of the
denoiser's U-Net with the timestep as input, and a pooling head. `PAPER` is the network of Wolleb et al. 2022,
"Diffusion models for medical anomaly detection".

| symbol | here | shape |
|---|---|---|
| x_t | `sample` | (B, C, H, W) |
| t | `timestep` | one for all images, or (B,) |
| y | id of a label of `id2label` | |
| log p(y, x_t), up to a constant | `forward(…).logits` | (B, L) |
| ∇ log p(y given x_t) | `gradient(…)`, with respect to x_t | (B, C, H, W) |
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D, get_down_block
from diffusers.utils import BaseOutput
from torch import Tensor, nn

PUBLISHED_AS = "meddiffusers_noisy_classifier_v1"  # library name in model_index.json and file name in a repository
PAPER: dict[str, Any] = {  # 256² pixels
    "sample_size": 256,
    "block_out_channels": (32, 32, 64, 64, 128, 128),
    "layers_per_block": 4,
    "attention_levels": (3, 4, 5),
    "attention_head_dim": 64,
    "norm_num_groups": 32,
    "pooling": "attention",
}


@dataclass
class NoisyClassifierOutput(BaseOutput):
    """Output of [`NoisyClassifier`].

    Args:
        logits: (B, L), the labels in the order of their ids.
    """

    logits: Tensor


class NoisyClassifier(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Classifier of images x_t at timestep t.

    Args:
        in_channels: C, one for each modality.
        id2label: Names of the labels by id.
        sample_size: Side length in pixels of the training images; the only one that works with pooling "attention".
        block_out_channels: Channels of each level; the image is downsampled by 2 between levels.
        layers_per_block: Residual blocks of each level.
        attention_levels: Levels with attention, counted from 0.
        attention_head_dim: Channels of an attention head; one head if None.
        norm_num_groups: Groups of the group normalisations.
        pooling: "attention", of a mean token to all pixels, as in the paper; or "mean", for images of any size.

    Raises:
        ValueError: If the ids of the labels are not 0, 1, …
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        id2label: Mapping[Any, str] | Sequence[str] = ("healthy", "diseased"),
        sample_size: int = 96,
        block_out_channels: Sequence[int] = (32, 64, 96, 128),
        layers_per_block: int = 1,
        attention_levels: Sequence[int] = (),
        attention_head_dim: int | None = None,
        norm_num_groups: int = 16,
        pooling: Literal["attention", "mean"] = "mean",
    ) -> None:
        super().__init__()
        self.__module__ = PUBLISHED_AS  # what diffusers writes as this component's library
        names = _to_indexed(id2label)
        if len(names) < 2 or set(names) != {str(index) for index in range(len(names))}:
            raise ValueError(f"id2label has the ids {', '.join(names)}; expected 0, 1 and so on, at least two.")
        width, last = block_out_channels[0], block_out_channels[-1]
        self.conv_in = nn.Conv2d(in_channels, width, 3, padding=1)
        self.time_proj = Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(width, 4 * width)
        shared: dict[str, Any] = {
            "resnet_eps": 1e-5,
            "resnet_act_fn": "silu",
            "resnet_groups": norm_num_groups,
            "resnet_time_scale_shift": "scale_shift",
            "temb_channels": 4 * width,
        }
        self.down_blocks = nn.ModuleList(
            get_down_block(
                "AttnDownBlock2D" if level in attention_levels else "ResnetDownsampleBlock2D",
                num_layers=layers_per_block,
                in_channels=block_out_channels[max(level - 1, 0)],
                out_channels=channels,
                add_downsample=level + 1 < len(block_out_channels),
                attention_head_dim=attention_head_dim or channels,
                downsample_type="resnet",
                **shared,
            )
            for level, channels in enumerate(block_out_channels)
        )
        self.mid_block = UNetMidBlock2D(
            in_channels=last, attention_head_dim=attention_head_dim or last, attn_groups=norm_num_groups, **shared
        )
        self.norm_out = nn.GroupNorm(norm_num_groups, last, eps=1e-5)
        if pooling == "attention":
            side = sample_size // 2 ** (len(block_out_channels) - 1)
            self.head: nn.Module = AttentionPool(side, last, attention_head_dim or last, len(names))
        else:
            self.head = MeanPool(last, len(names))

    @property
    def id2label(self) -> dict[int, str]:
        """Names of the labels by id."""
        names = _to_indexed(self.config["id2label"])
        return {index: names[str(index)] for index in range(len(names))}

    def label_id(self, name: str) -> int:
        """Return the id of a label; raise a ValueError if there is none of this name."""
        ids = [index for index, label in self.id2label.items() if label == name]
        if not ids:
            raise ValueError(f"There is no label {name!r}; expected one of {', '.join(self.id2label.values())}.")
        return ids[0]

    def forward(
        self, sample: Tensor, timestep: Tensor | float | int, return_dict: bool = True
    ) -> NoisyClassifierOutput | tuple[Tensor]:
        """Compute the logits of the labels for images (B, C, H, W) at one timestep, or at timesteps (B,)."""
        times = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        embedded = self.time_embedding(self.time_proj(times).to(sample.dtype))
        hidden = self.conv_in(sample)
        for block in self.down_blocks:
            hidden, _ = block(hidden_states=hidden, temb=embedded)
        logits = self.head(F.silu(self.norm_out(self.mid_block(hidden, embedded))))
        return NoisyClassifierOutput(logits=logits) if return_dict else (logits,)

    def gradient(self, sample: Tensor, timestep: Tensor | float | int, label: int) -> Tensor:
        """Compute ∇ log p(label given x_t) with respect to x_t, (B, C, H, W); works in `torch.inference_mode` too."""
        saved = torch.autograd.graph.saved_tensors_hooks(_copy_weights, lambda tensor: tensor)
        with torch.inference_mode(False), torch.enable_grad(), saved:
            x, times = sample.detach().clone().requires_grad_(), torch.as_tensor(timestep).clone()
            log_probability = self(x, times).logits.float().log_softmax(dim=1)[:, label].sum()
            return torch.autograd.grad(log_probability, x)[0]

    def to_json_string(self) -> str:
        """Return the configuration as JSON, without the folder that it was loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration and this file, so that the repository opens where the package is not installed."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))


def _copy_weights(tensor: Tensor) -> Tensor:
    """Copy weights that the backward pass needs: offloading may have removed them by then."""
    return tensor.detach().clone() if isinstance(tensor, nn.Parameter) else tensor


class AttentionPool(nn.Module):
    """Attention pooling: the mean of all pixels attends to them (Radford et al. 2021, CLIP, section 2.4).

    Maps (B, C, side, side) to (B, labels).
    """

    def __init__(self, side: int, channels: int, head_channels: int, labels: int) -> None:
        super().__init__()
        self.head_channels = head_channels
        self.positions = nn.Parameter(torch.randn(channels, side**2 + 1) / math.sqrt(channels))
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.to_out = nn.Linear(channels, labels)

    def forward(self, features: Tensor) -> Tensor:
        tokens = features.flatten(2)
        tokens = torch.cat([tokens.mean(dim=2, keepdim=True), tokens], dim=2) + self.positions
        heads = self.to_qkv(tokens.mT).unflatten(2, (3, -1, self.head_channels)).permute(2, 0, 3, 1, 4)
        query, key, value = heads  # (B, heads, tokens, head_channels) each
        return self.to_out(F.scaled_dot_product_attention(query[:, :, :1], key, value).flatten(1))


class MeanPool(nn.Module):
    """Mean over all pixels and a linear layer. Maps (B, C, H, W) to (B, labels)."""

    def __init__(self, channels: int, labels: int) -> None:
        super().__init__()
        self.to_out = nn.Linear(channels, labels)

    def forward(self, features: Tensor) -> Tensor:
        return self.to_out(features.mean(dim=(2, 3)))


def _to_indexed(values: Mapping[Any, str] | Sequence[str]) -> dict[str, str]:
    """Convert a list to {"0": first, …}, which JSON can hold."""
    return {
        str(key): name for key, name in (values if isinstance(values, Mapping) else dict(enumerate(values))).items()
    }
