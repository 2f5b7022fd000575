"""Denoise images: diffusers' `UNet2DModel` on patches, with optional class labels, and LoRA adapters.

| symbol | here | shape |
|---|---|---|
| x_t | `sample` | (B, C, H, W) |
| t | `timestep` | one for all images, or (B,) |
| y | `class_labels`, ids 0 … L − 1 of `id2label`, L if unknown | (B,) |
| D(x_t, t, y) | `forward(…).sample` | (B, `out_channels`, H, W) |

The network sees p×p pixels of a channel as p² channels of one pixel, which makes it p² times faster (Hoogeboom et al.
2023, "simple diffusion"). Dropping labels at random in training gives one network for conditional and unconditional
predictions (Ho and Salimans 2022, "Classifier-free diffusion guidance").
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders.peft import PeftAdapterMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DModel, UNet2DOutput
from torch import Tensor

PUBLISHED_AS = "meddiffusers_patch_unet_v1"  # library name in model_index.json and file name in a repository
DERIVED = ("sample_size", "in_channels", "out_channels", "num_class_embeds")  # settings that follow from the others


class PatchUNet2DModel(ModelMixin, ConfigMixin, PeftAdapterMixin):  # type: ignore[misc]
    """Image denoiser that takes LoRA adapters.

    Args:
        in_channels: C, one for each modality.
        out_channels: C, or 2·C to learn the variance too. None: C.
        patch_size: p.
        sample_size: Side length in pixels of the training images; other sizes work too.
        id2label: Names of the labels by id; None: no labels.
        network: Settings of the `UNet2DModel`, without its channels, labels and size.

    Raises:
        ValueError: If the configuration is inconsistent; the message says what to change.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        out_channels: int | None = None,
        patch_size: int = 1,
        sample_size: int = 96,
        id2label: Mapping[Any, str] | Sequence[str] | None = None,
        network: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.__module__ = PUBLISHED_AS  # what diffusers writes as this component's library
        if out_channels not in (None, in_channels, 2 * in_channels):
            raise ValueError(
                f"out_channels={out_channels} for in_channels={in_channels}: expected {in_channels}, or "
                f"{2 * in_channels} to learn the variance too."
            )
        clashing = set(network or {}) & set(DERIVED)
        if clashing:
            raise ValueError(
                f"network sets {', '.join(sorted(clashing))}, which follow from in_channels, out_channels, id2label, "
                "patch_size and sample_size. Remove them there."
            )
        if sample_size % patch_size:
            raise ValueError(
                f"sample_size={sample_size} is not divisible by patch_size={patch_size}. Pad the images or use "
                "smaller patches."
            )
        squared = patch_size**2
        self.unet = UNet2DModel(
            sample_size=sample_size // patch_size,
            in_channels=squared * in_channels,
            out_channels=squared * (out_channels or in_channels),
            num_class_embeds=len(id2label) + 1 if id2label else None,
            **(network or {}),
        )

    @classmethod
    def from_unet(cls, unet: UNet2DModel) -> PatchUNet2DModel:
        """Wrap a `UNet2DModel` without labels, whose weights are shared, so that it accepts LoRA adapters."""
        settings = {name: value for name, value in unet.config.items() if name not in DERIVED and name[0] != "_"}
        size = unet.config["sample_size"]
        with torch.device("meta"):
            model = cls(
                in_channels=unet.config["in_channels"],
                out_channels=unet.config["out_channels"],
                sample_size=size if isinstance(size, int) else 96,
                network=settings,
            )
        model.unet = unet
        return model.train(unet.training)

    @property
    def stride(self) -> int:
        """Height and width of an image must be divisible by it."""
        return self.config["patch_size"] * 2 ** (len(self.unet.config["block_out_channels"]) - 1)

    @property
    def id2label(self) -> dict[int, str]:
        """Names of the labels by id; empty without labels."""
        names = self.config["id2label"] or {}
        by_index = names if isinstance(names, Mapping) else dict(enumerate(names))
        return {int(index): name for index, name in by_index.items()}

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        class_labels: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[Tensor]:
        """Predict from noisy images.

        Args:
            sample: Noisy images, (B, C, H, W).
            timestep: One for all images, or (B,).
            class_labels: Ids of the labels, (B,); None: unknown.
            return_dict: Return a `UNet2DOutput` instead of a tuple.
        """
        unknown = len(self.id2label)
        if unknown and class_labels is None:
            class_labels = torch.full((len(sample),), unknown, device=sample.device)
        patch = self.config["patch_size"]
        predicted = self.unet(F.pixel_unshuffle(sample, patch), timestep, class_labels).sample
        predicted = F.pixel_shuffle(predicted, patch)
        return UNet2DOutput(sample=predicted) if return_dict else (predicted,)

    def to_json_string(self) -> str:
        """Return the configuration as JSON, without the folder that it was loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration and this file, so that the repository opens where the package is not installed."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))
