"""Denoiser of segmentation masks: looks at the image once, then denoises as many masks as are asked for.

Wolleb et al. 2022 put image and noisy mask into one U-Net, so that every step of every sample pays for looking at the
image. Here an image network, itself a U-Net, first makes features of the image, and a smaller U-Net denoises masks next
to these features (as SegDiff does, Amit et al. 2021). Without an image network the features are the image itself, and
this is the network of Wolleb et al.

| symbol | here | shape |
|---|---|---|
| b | `image` | (B, C, H, W), the co-registered sequences |
| F(b) | `features` | (B, F·(q/p)², H/q, W/q), p = `patch_size`, q = `mask_patch_size` |
| ℓ(b) | `logits`, the first channels of F(b) | (B, K, H, W), what the image network itself takes the mask for |
| x_t | `sample` | (n·B, K, H, W), noisy masks; the n of one image follow each other |
| D(x_t, t, F(b)) | `forward(…).sample` | (n·B, `out_channels`, H, W) |

Both networks are diffusers' `UNet2DModel`. The image network sees p×p pixels of a channel as p² channels of one pixel,
the denoiser q×q, which makes them p² and q² times faster (Hoogeboom et al. 2023, "simple diffusion").
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders.peft import PeftAdapterMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook

PUBLISHED_AS = "meddiffusers_segmentation_unet_v1"  # library name in model_index.json and file name in a repository
DERIVED = ("sample_size", "in_channels", "out_channels")  # settings of a UNet2DModel that follow from the others


@dataclass
class SegmentationUNetOutput(BaseOutput):
    """`sample`: the prediction (n·B, `out_channels`, H, W); `logits` (B, K, H, W) where there is an image network."""

    sample: torch.Tensor
    logits: torch.Tensor | None = None


class SegmentationUNet(ModelMixin, ConfigMixin, PeftAdapterMixin):  # type: ignore[misc]
    """Mask denoiser with an image network of its own; LoRA adapters fit on both.

    Configuration:
        image_channels: C, one for each sequence.
        mask_channels: K, 1 for a binary mask, else one for each label, background included.
        out_channels: K, or 2·K where the variance is learnt too. None: K.
        patch_size: p.
        mask_patch_size: q, a multiple of p. None: p.
        sample_size: side length in pixels of the images the model was trained on; others work too.
        denoiser: settings of the `UNet2DModel` that denoises, all but `in_channels`, `out_channels`, `sample_size`.
        image_network: settings of the `UNet2DModel` that looks at the image, likewise; None: there is none.
        feature_channels: F, where there is an image network.

    Raises:
        ValueError: a configuration that cannot work, with what to change.
    """

    _supports_gradient_checkpointing = True
    _group_offload_block_modules = ("image_unet", "mask_unet")  # fetched on their own: `encode_image` needs but one

    @register_to_config
    def __init__(
        self,
        image_channels: int = 4,
        mask_channels: int = 1,
        out_channels: int | None = None,
        patch_size: int = 1,
        mask_patch_size: int | None = None,
        sample_size: int = 96,
        denoiser: Mapping[str, Any] | None = None,
        image_network: Mapping[str, Any] | None = None,
        feature_channels: int = 32,
    ) -> None:
        super().__init__()
        self.__module__ = PUBLISHED_AS  # what diffusers writes as this component's library
        _check_configuration(self.config)
        patch, mask_patch = patch_size, mask_patch_size or patch_size
        seen = mask_patch**2 * image_channels
        self.image_unet = None
        if image_network is not None:
            self.image_unet = UNet2DModel(
                sample_size=sample_size // patch,
                in_channels=patch**2 * image_channels,
                out_channels=feature_channels,
                **image_network,
            )
            seen = (mask_patch // patch) ** 2 * feature_channels
        self.mask_unet = UNet2DModel(
            sample_size=sample_size // mask_patch,
            in_channels=seen + mask_patch**2 * mask_channels,
            out_channels=mask_patch**2 * (out_channels or mask_channels),
            **(denoiser or {}),
        )

    @classmethod
    def from_unet(cls, unet: UNet2DModel, mask_channels: int = 1) -> SegmentationUNet:
        """A `UNet2DModel` whose input is image and noisy mask, one after the other, as this class; shares its weights.

        What adapters need: a `UNet2DModel` takes none.
        """
        settings = {name: value for name, value in unet.config.items() if name not in DERIVED and name[0] != "_"}
        size = unet.config["sample_size"]
        with torch.device("meta"):
            model = cls(
                image_channels=unet.config["in_channels"] - mask_channels,
                mask_channels=mask_channels,
                out_channels=unet.config["out_channels"],
                sample_size=size if isinstance(size, int) else 96,
                denoiser=settings,
            )
        model.mask_unet = unet
        return model

    @property
    def stride(self) -> int:
        """Height and width of an image must be divisible by it."""
        networks = [(self.mask_patch_size, self.mask_unet), (self.config["patch_size"], self.image_unet)]
        blocks = [(patch, unet.config["block_out_channels"]) for patch, unet in networks if unet is not None]
        return math.lcm(*(patch * 2 ** (len(channels) - 1) for patch, channels in blocks))

    @property
    def mask_patch_size(self) -> int:
        """q."""
        return self.config["mask_patch_size"] or self.config["patch_size"]

    @apply_forward_hook  # so that a pipeline's CPU offload brings the weights here, as it does for `forward`
    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        """Features of images (B, C, H, W): the part of the work that no noise has a say in."""
        if self.image_unet is None:
            return F.pixel_unshuffle(image, self.mask_patch_size)
        patch = self.config["patch_size"]
        features = self.image_unet(F.pixel_unshuffle(image, patch), 0).sample
        return F.pixel_unshuffle(features, self.mask_patch_size // patch)

    def logits(self, features: torch.Tensor) -> torch.Tensor | None:
        """What of the features are the image network's logits (B, K, H, W); None without an image network."""
        if self.image_unet is None:
            return None
        patch = self.config["patch_size"]
        whole = F.pixel_shuffle(features, self.mask_patch_size // patch)
        return F.pixel_shuffle(whole[:, : patch**2 * self.config["mask_channels"]], patch)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float | int,
        image: torch.Tensor | None = None,
        features: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> SegmentationUNetOutput | tuple[torch.Tensor, torch.Tensor | None]:
        """What the network predicts for noisy masks `sample` of an `image`, or of its `features`.

        timestep: one for all, or (n·B,). Raises ValueError if neither or both of image and features are given, or if
        the number of masks is no multiple of the number of images.
        """
        if (image is None) == (features is None):
            raise ValueError("Expected either `image` or what `encode_image` made of it as `features`.")
        features = self.encode_image(image) if features is None else features
        times, rest = divmod(len(sample), len(features))
        if rest:
            raise ValueError(f"Got {len(sample)} masks for {len(features)} images; expected as many for each image.")
        patches = F.pixel_unshuffle(sample, self.mask_patch_size)
        seen = torch.cat([features.repeat_interleave(times, dim=0), patches], dim=1)
        predicted = F.pixel_shuffle(self.mask_unet(seen, timestep).sample, self.mask_patch_size)
        logits = self.logits(features)
        return SegmentationUNetOutput(sample=predicted, logits=logits) if return_dict else (predicted, logits)

    def to_json_string(self) -> str:
        """The configuration as JSON, without the folder it happened to be loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration and this file, so that the repository opens where the package is not installed."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))


def _check_configuration(config: Any) -> None:
    """Raise a ValueError for a configuration that cannot work."""
    channels, out = config["mask_channels"], config["out_channels"]
    if out not in (None, channels, 2 * channels):
        raise ValueError(
            f"out_channels={out} for mask_channels={channels}: expected {channels}, or {2 * channels} to learn the "
            "variance too."
        )
    for name in ("denoiser", "image_network"):
        clashing = set(config[name] or {}) & set(DERIVED)
        if clashing:
            raise ValueError(
                f"{name} sets {', '.join(sorted(clashing))}, which follow from image_channels, mask_channels, "
                "out_channels, feature_channels, patch_size and sample_size. Remove them there."
            )
    patch, mask_patch = config["patch_size"], config["mask_patch_size"] or config["patch_size"]
    if mask_patch % patch or config["sample_size"] % mask_patch:
        raise ValueError(
            f"patch_size={patch}, mask_patch_size={mask_patch} and sample_size={config['sample_size']}: expected each "
            "to divide the next. Pad the images or take other patches."
        )
    if config["image_network"] is not None and config["feature_channels"] < patch**2 * channels:
        raise ValueError(
            f"feature_channels={config['feature_channels']}: expected at least {patch**2 * channels}, which hold the "
            f"logits of {channels} mask channels in patches of {patch}² pixels."
        )
