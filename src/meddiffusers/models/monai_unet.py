"""Denoiser of images and volumes: MONAI's `DiffusionModelUNet` as a model of diffusers.

| symbol | here | shape |
|---|---|---|
| x_t | `sample` | (B, C, H, W) or (B, C, D, H, W), as `spatial_dims` says |
| t | `timestep` | one for all, or (B,) |
| τ | `encoder_hidden_states`, tokens of the condition | (B, T, `cross_attention_dim`) |
| y | `class_labels`, ids 0 … `num_class_embeds` − 1 | (B,) |

Names and values of the weights are those of MONAI, and outputs agree to the last bit (Pinaya et al. 2022, "Brain
imaging generation with latent diffusion models"). LoRA adapters apply to the layers `to_q`, `to_k`, `to_v` and
`out_proj` of its attention.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders.peft import PeftAdapterMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DOutput
from monai.networks.nets import DiffusionModelUNet
from torch import Tensor

PUBLISHED_AS = "meddiffusers_monai_unet_v1"  # library name in model_index.json and file name in a repository


class MonaiUNet(DiffusionModelUNet, ModelMixin, ConfigMixin, PeftAdapterMixin):  # type: ignore[misc]
    """U-Net in two or three dimensions.

    Gradient checkpointing and group offloading (`enable_group_offload`) are not available.

    Args:
        spatial_dims: 2 or 3. This and the other arguments have the names and meanings of MONAI's `DiffusionModelUNet`.

    Example:
        >>> unet = MonaiUNet(spatial_dims=3, in_channels=1, out_channels=1)
        >>> unet(torch.randn(1, 1, 32, 32, 32), timestep=500).sample.shape
        torch.Size([1, 1, 32, 32, 32])
    """

    _supports_gradient_checkpointing = False
    _supports_group_offloading = False
    _repeated_blocks = ["DiffusionUNetResnetBlock", "SpatialTransformer", "SpatialAttentionBlock"]

    @register_to_config
    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 3,
        out_channels: int = 3,
        num_res_blocks: Sequence[int] | int = 2,
        channels: Sequence[int] = (32, 64, 64),
        attention_levels: Sequence[bool] = (False, True, True),
        norm_num_groups: int = 32,
        norm_eps: float = 1e-6,
        resblock_updown: bool = False,
        num_head_channels: Sequence[int] | int = 8,
        with_conditioning: bool = False,
        transformer_num_layers: int = 1,
        cross_attention_dim: int | None = None,
        num_class_embeds: int | None = None,
        upcast_attention: bool = False,
        dropout_cattn: float = 0.0,
        include_fc: bool = True,
        use_combined_linear: bool = False,
        use_flash_attention: bool = False,
    ) -> None:
        settings = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        DiffusionModelUNet.__init__(self, **settings)
        self.__module__ = PUBLISHED_AS  # what diffusers writes as this component's library

    def forward(  # type: ignore[override]
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        encoder_hidden_states: Tensor | None = None,
        class_labels: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[Tensor]:
        """Predict noise, sample or velocity.

        Args:
            sample: Noisy images (B, C, H, W) or volumes (B, C, D, H, W).
            timestep: One timestep for all, or (B,).
            encoder_hidden_states: Tokens (B, T, `cross_attention_dim`) for cross-attention.
            class_labels: Ids of the classes (B,).
            return_dict: Return an output object rather than a tuple.

        Returns:
            A `UNet2DOutput` whose `sample` has `out_channels` channels, or a tuple of it.
        """
        times = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(len(sample))
        predicted = DiffusionModelUNet.forward(
            self, sample, times, context=encoder_hidden_states, class_labels=class_labels
        )
        return UNet2DOutput(sample=predicted) if return_dict else (predicted,)

    def to_json_string(self) -> str:
        """Return the configuration as JSON with sorted keys, without the path that it was loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration and this file, so that the repository opens without the package."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))
