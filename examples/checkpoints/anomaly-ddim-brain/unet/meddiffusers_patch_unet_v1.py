"""Denoiser of whole images: diffusers' `UNet2DModel` on patches, with labels that may be unknown, and LoRA.

| symbol | here | shape |
|---|---|---|
| x_t | `sample` | (B, C, H, W) |
| t | `timestep` | one for all, or (B,) |
| y | `class_labels`, ids 0 … L − 1 of `id2label`, L where unknown | (B,) |
| D(x_t, t, y) | `forward(…).sample` | (B, `out_channels`, H, W) |

The network sees p×p pixels of a channel as p² channels of one pixel, which makes it p² times faster (Hoogeboom et al.
2023, "simple diffusion"). Labels that are left out at random in training make one network of both, with and without
(Ho and Salimans 2022, "Classifier-free diffusion guidance").
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
    """Denoiser of images; LoRA adapters fit on it.

    Configuration:
        in_channels: C, one for each modality.
        out_channels: C, or 2·C where the variance is learnt too. None: C.
        patch_size: p.
        sample_size: side length in pixels of the images the model was trained on; others work too.
        id2label: names of the labels by id, or None: it knows none.
        network: settings of the `UNet2DModel`, all but its channels, labels and size.

    Raises:
        ValueError: a configuration that cannot work, with what to change.
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
                f"sample_size={sample_size} is not divisible by patch_size={patch_size}. Pad the images or take "
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
        """A `UNet2DModel` without labels as this class, which takes adapters; shares its weights."""
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
        """Names of the labels by id; empty where it knows none."""
        names = self.config["id2label"] or {}
        to_indexed = names if isinstance(names, Mapping) else dict(enumerate(names))
        return {int(number): name for number, name in to_indexed.items()}

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        class_labels: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[Tensor]:
        """What the network predicts for noisy images; without labels they are unknown."""
        unknown = len(self.id2label)
        if unknown and class_labels is None:
            class_labels = torch.full((len(sample),), unknown, device=sample.device)
        patch = self.config["patch_size"]
        predicted = self.unet(F.pixel_unshuffle(sample, patch), timestep, class_labels).sample
        predicted = F.pixel_shuffle(predicted, patch)
        return UNet2DOutput(sample=predicted) if return_dict else (predicted,)

    def to_json_string(self) -> str:
        """The configuration as JSON, without the folder it happened to be loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration and this file, so that the repository opens where the package is not installed."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))
