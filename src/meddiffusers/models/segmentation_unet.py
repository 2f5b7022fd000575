"""Denoiser of segmentation masks: looks at the image once, then denoises as many masks as are asked for.

Wolleb et al. 2022 put image and noisy mask into one U-Net, so that every step of every sample pays for looking at the
image. Here an image network, itself a U-Net, first makes features of the image, and a smaller U-Net denoises masks next
to these features (as SegDiff does, Amit et al. 2021). Without an image network the features are the image itself, and
this is the network of Wolleb et al.

| symbol | here | shape |
|---|---|---|
| b | `image` | (B, C, H, W), the co-registered modalities |
| F(b) | `features` | (B, F, H/p, W/p), p = `patch_size` |
| ℓ(b) | `guess`, the first channels of F(b) | (B, K, H, W), logits of the labels by the image alone |
| x_t | `sample` | (n·B, K, H, W), noisy masks; the n of one image follow each other |
| D(x_t, t, F(b)) | `forward(…).sample` | (n·B, `out_channels`, H, W) |

With an image network the prediction is that of x_0, and the denoiser Δ only changes the guess: by Bayes' rule

    p(label | x_t, b) = softmax(ℓ(b) + e(x_t, t) + Δ(x_t, t, F(b)))    (sigmoid for K = 1)
    e(x_t, t) = 2 √ᾱ_t / (1 − ᾱ_t) · x_t,    D = 2 p − 1 = E[x_0 | x_t, b]

of which e is what a pixel's own noisy value says of its label (Gaussian noise around ±√ᾱ_t), with no weights to learn,
and Δ what the pixels around it say. So samples begin where a segmentation network would end, and Δ = 0 would draw each
pixel from its own probability: what is learnt is only how pixels go together. Gradients of D stop at the features: the
image network learns from its guess alone, as well as if there were no denoiser, and the features after the guess are a
fixed random view of its last layer.
Both networks are diffusers' `UNet2DModel` and see p×p pixels of a channel as p² channels of one pixel, which makes them
p² times faster (Hoogeboom et al. 2023, "simple diffusion").
"""

from __future__ import annotations

import json
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
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook

PUBLISHED_AS = "meddiffusers_segmentation_unet_v1"  # library name in model_index.json and file name in a repository
CERTAIN = 100.0  # log odds beyond which there is no doubt left; half precision ends at 65504
DERIVED = ("sample_size", "in_channels", "out_channels")  # settings of a UNet2DModel that follow from the others


@dataclass
class SegmentationUNetOutput(BaseOutput):
    """`sample`: the prediction, (n·B, `out_channels`, H, W).

    Where there is an image network, `logits` (n·B, K, H, W) of the labels and `guess` (B, K, H, W), those without x_t.
    """

    sample: torch.Tensor
    logits: torch.Tensor | None = None
    guess: torch.Tensor | None = None


class SegmentationUNet(ModelMixin, ConfigMixin, PeftAdapterMixin):  # type: ignore[misc]
    """Mask denoiser with an image network of its own; LoRA adapters fit on both.

    Configuration:
        image_channels: C, one for each modality.
        mask_channels: K, 1 for a binary mask, else one for each label, background included.
        out_channels: K, or 2·K where the variance is learnt too, which only works without an image network. None: K.
        patch_size: p.
        sample_size: side length in pixels of the images the model was trained on; others work too.
        denoiser: settings of the `UNet2DModel` that denoises, all but `in_channels`, `out_channels`, `sample_size`.
        image_network: settings of the `UNet2DModel` that looks at the image, likewise; None: there is none. With it the
            model predicts x_0 of masks in ±1, noised as Ho et al. 2020 do (β from 1e-4 to 0.02 in 1000 steps): the
            scheduler's `prediction_type` must be "sample", its betas those, which are diffusers' own defaults.
        feature_channels: F, where there is an image network.

    Raises:
        ValueError: a configuration that cannot work, with what to change.
    """

    _supports_gradient_checkpointing = True
    alphas_cumprod = DDPMScheduler().alphas_cumprod  # ᾱ_t (1000,) of Ho et al. 2020, which an image network goes with
    _group_offload_block_modules = ("image_unet", "mask_unet")  # fetched on their own: `encode_image` needs but one

    @register_to_config
    def __init__(
        self,
        image_channels: int = 4,
        mask_channels: int = 1,
        out_channels: int | None = None,
        patch_size: int = 1,
        sample_size: int = 96,
        denoiser: Mapping[str, Any] | None = None,
        image_network: Mapping[str, Any] | None = None,
        feature_channels: int = 32,
    ) -> None:
        super().__init__()
        self.__module__ = PUBLISHED_AS  # what diffusers writes as this component's library
        _check_configuration(self.config)
        squared, side = patch_size**2, sample_size // patch_size
        seen, made = squared * image_channels, squared * (out_channels or mask_channels)
        self.image_unet = None
        if image_network is not None:
            self.image_unet = UNet2DModel(
                sample_size=side, in_channels=seen, out_channels=feature_channels, **image_network
            )
            seen = feature_channels
        self.mask_unet = UNet2DModel(
            sample_size=side, in_channels=seen + squared * mask_channels, out_channels=made, **(denoiser or {})
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
        networks = [network for network in (self.mask_unet, self.image_unet) if network is not None]
        return self.config["patch_size"] * max(2 ** (len(net.config["block_out_channels"]) - 1) for net in networks)

    @apply_forward_hook  # so that a pipeline's CPU offload brings the weights here, as it does for `forward`
    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        """Features of images (B, C, H, W): the part of the work that no noise has a say in."""
        patches = F.pixel_unshuffle(image, self.config["patch_size"])
        return patches if self.image_unet is None else self.image_unet(patches, 0).sample

    def guess(self, features: torch.Tensor) -> torch.Tensor | None:
        """Logits (B, K, H, W) of the labels by the image alone; None without an image network."""
        patch = self.config["patch_size"]
        if self.image_unet is None:
            return None
        return F.pixel_shuffle(features[:, : patch**2 * self.config["mask_channels"]], patch)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float | int,
        image: torch.Tensor | None = None,
        features: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> SegmentationUNetOutput | tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """What the network predicts for noisy masks `sample` of an `image`, or of its `features`.

        timestep: one for all, or (n·B,). Fewer masks than images are those of the first ones; the others only get a
        guess. Raises ValueError if neither or both of image and features are given, or if there are more masks than
        images but no multiple of them.
        """
        if (image is None) == (features is None):
            raise ValueError("Expected either `image` or what `encode_image` made of it as `features`.")
        features = self.encode_image(image) if features is None else features
        patch, shown = self.config["patch_size"], features[: len(sample)]
        shown = shown if self.image_unet is None else shown.detach()
        times, rest = divmod(len(sample), len(shown))
        if rest:
            raise ValueError(f"Got {len(sample)} masks for {len(features)} images; expected as many for each image.")
        seen = torch.cat([shown.repeat_interleave(times, dim=0), F.pixel_unshuffle(sample, patch)], dim=1)
        predicted = F.pixel_shuffle(self.mask_unet(seen, timestep).sample, patch)
        logits, guess = None, self.guess(features)
        if guess is not None:
            known = guess[: len(sample)].detach().repeat_interleave(times, dim=0)
            logits = known + self._evidence(sample, timestep) + predicted
            predicted = 2 * (logits.softmax(dim=1) if logits.shape[1] > 1 else logits.sigmoid()) - 1
        if not return_dict:
            return predicted, logits, guess
        return SegmentationUNetOutput(sample=predicted, logits=logits, guess=guess)

    def _evidence(self, sample: torch.Tensor, timestep: torch.Tensor | float | int) -> torch.Tensor:
        """e(x_t, t): log odds of each pixel's labels by its own noisy value."""
        signal = self.alphas_cumprod.to(sample.device)[torch.as_tensor(timestep, device=sample.device).long()]
        gain = (2 * signal.sqrt() / (1 - signal)).clamp_max(CERTAIN)
        return gain.reshape(-1, 1, 1, 1).to(sample.dtype) * sample

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
    patch = config["patch_size"]
    if config["sample_size"] % patch:
        raise ValueError(
            f"sample_size={config['sample_size']} is not divisible by patch_size={patch}. Pad the images or take "
            "smaller patches."
        )
    if config["image_network"] is not None and config["feature_channels"] < patch**2 * channels:
        raise ValueError(
            f"feature_channels={config['feature_channels']}: expected at least {patch**2 * channels}, which hold the "
            f"logits of {channels} mask channels in patches of {patch}² pixels."
        )
    if config["image_network"] is not None and out not in (None, channels):
        raise ValueError(
            f"out_channels={out} with an image network, whose denoiser predicts labels and no variance; expected "
            f"{channels}. Leave the image network or the variance out."
        )
