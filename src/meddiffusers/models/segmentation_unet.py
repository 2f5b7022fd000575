"""Denoise segmentation masks of an image that is encoded once.

Wolleb et al. 2022 concatenate the image and the noisy mask as the input of one U-Net, so every step of every sample
processes the image again. Here an image encoder, itself a U-Net, first computes features of the image, and a smaller
U-Net denoises masks given these features (as in SegDiff, Amit et al. 2021). Without an image encoder the features are
the image itself, and this is the network of Wolleb et al.

| symbol | here | shape |
|---|---|---|
| b | `image` | (B, C, H, W), the co-registered modalities |
| F(b) | `features` | (B, F, H/p, W/p), p = `patch_size` |
| ℓ(b) | `prior_logits`, the first channels of F(b) | (B, K, H, W), logits of the labels given the image alone |
| x_t | `sample` | (n·B, K, H, W), noisy masks; the n masks of one image follow each other |
| D(x_t, t, F(b)) | `forward(…).sample` | (n·B, `out_channels`, H, W) |

With an image encoder the model predicts x_0, and the denoiser Δ only corrects the prior logits. By Bayes' rule

    p(label | x_t, b) = softmax(ℓ(b) + e(x_t, t) + Δ(x_t, t, F(b)))    (sigmoid for K = 1)
    e(x_t, t) = 2 √ᾱ_t / (1 − ᾱ_t) · x_t,    D = 2 p − 1 = E[x_0 | x_t, b]

e are the likelihood logits: what a pixel's own noisy value says about its label (Gaussian noise around ±√ᾱ_t), in
closed form. Δ is what the surrounding pixels say. Sampling therefore starts from the result of a segmentation network,
and Δ = 0 would sample each pixel independently: the denoiser only learns how pixels depend on each other. Gradients of
D stop at the features: the image encoder learns from its prior logits alone, as it would without a denoiser, and the
features after the prior logits are a fixed random projection of its last layer.

Both networks are diffusers' `UNet2DModel`. They process p×p pixels of a channel as p² channels of one pixel, which
makes them p² times faster (Hoogeboom et al. 2023, "simple diffusion").
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
MAX_GAIN = 100.0  # bound of the likelihood gain, above which a label is certain; float16 ends at 65504
DERIVED = ("sample_size", "in_channels", "out_channels")  # settings of a UNet2DModel that follow from the others


@dataclass
class SegmentationUNetOutput(BaseOutput):
    """Output of [`SegmentationUNet`].

    Args:
        sample: Prediction, (n·B, `out_channels`, H, W).
        logits: Logits of the labels given image and noisy mask, (n·B, K, H, W); None without an image encoder.
        prior_logits: Logits of the labels given the image alone, (B, K, H, W); None without an image encoder.
    """

    sample: torch.Tensor
    logits: torch.Tensor | None = None
    prior_logits: torch.Tensor | None = None


class SegmentationUNet(ModelMixin, ConfigMixin, PeftAdapterMixin):  # type: ignore[misc]
    """Mask denoiser with an optional image encoder; both take LoRA adapters.

    Args:
        image_channels: C, one for each modality.
        mask_channels: K, 1 for a binary mask, otherwise the number of labels including the background.
        out_channels: K, or 2·K to learn the variance too, which requires a model without an image encoder. None: K.
        patch_size: p.
        sample_size: Side length in pixels of the training images; other sizes work too.
        denoiser_config: Settings of the `UNet2DModel` that denoises masks, without `in_channels`, `out_channels` and
            `sample_size`.
        image_encoder_config: The same for the `UNet2DModel` that encodes the image; None: no image encoder. With an
            image encoder the model predicts x_0 of masks in ±1, noised as in Ho et al. 2020 (β from 1e-4 to 0.02 in
            1000 steps): the scheduler needs `prediction_type="sample"` and these betas, which are diffusers' defaults.
        feature_channels: F, the output channels of the image encoder.

    Raises:
        ValueError: If the configuration is inconsistent; the message says what to change.
    """

    _supports_gradient_checkpointing = True
    alphas_cumprod = DDPMScheduler().alphas_cumprod  # ᾱ_t (1000,) of Ho et al. 2020, required by an image encoder
    _group_offload_block_modules = ("image_encoder", "denoiser")  # loaded separately: `encode_image` needs only one

    @register_to_config
    def __init__(
        self,
        image_channels: int = 4,
        mask_channels: int = 1,
        out_channels: int | None = None,
        patch_size: int = 1,
        sample_size: int = 96,
        denoiser_config: Mapping[str, Any] | None = None,
        image_encoder_config: Mapping[str, Any] | None = None,
        feature_channels: int = 32,
    ) -> None:
        super().__init__()
        self.__module__ = PUBLISHED_AS  # what diffusers writes as this component's library
        _check_configuration(self.config)
        patch_pixels, side = patch_size**2, sample_size // patch_size
        condition_channels = patch_pixels * image_channels
        self.image_encoder = None
        if image_encoder_config is not None:
            self.image_encoder = UNet2DModel(
                sample_size=side, in_channels=condition_channels, out_channels=feature_channels, **image_encoder_config
            )
            condition_channels = feature_channels
        self.denoiser = UNet2DModel(
            sample_size=side,
            in_channels=condition_channels + patch_pixels * mask_channels,
            out_channels=patch_pixels * (out_channels or mask_channels),
            **(denoiser_config or {}),
        )

    @classmethod
    def from_unet(cls, unet: UNet2DModel, mask_channels: int = 1) -> SegmentationUNet:
        """Wrap a `UNet2DModel` that takes the concatenated image and noisy mask, so that it accepts LoRA adapters.

        Args:
            unet: Network whose weights are shared.
            mask_channels: K, how many of its input channels are the mask.

        Returns:
            A model without an image encoder, equivalent to `unet`.
        """
        settings = {name: value for name, value in unet.config.items() if name not in DERIVED and name[0] != "_"}
        size = unet.config["sample_size"]
        with torch.device("meta"):
            model = cls(
                image_channels=unet.config["in_channels"] - mask_channels,
                mask_channels=mask_channels,
                out_channels=unet.config["out_channels"],
                sample_size=size if isinstance(size, int) else 96,
                denoiser_config=settings,
            )
        model.denoiser = unet
        return model

    @property
    def stride(self) -> int:
        """Height and width of an image must be divisible by it."""
        networks = [network for network in (self.denoiser, self.image_encoder) if network is not None]
        return self.config["patch_size"] * max(2 ** (len(net.config["block_out_channels"]) - 1) for net in networks)

    @apply_forward_hook  # so that a pipeline's CPU offload loads the weights, as it does for `forward`
    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the features of images, which do not depend on the noisy mask.

        Args:
            image: Images, (B, C, H, W).

        Returns:
            Features, (B, F, H/p, W/p); without an image encoder the patches of the image, (B, C·p², H/p, W/p).
        """
        patches = F.pixel_unshuffle(image, self.config["patch_size"])
        return patches if self.image_encoder is None else self.image_encoder(patches, 0).sample

    def prior_logits(self, features: torch.Tensor) -> torch.Tensor | None:
        """Return the logits (B, K, H, W) of the labels given the image alone; None without an image encoder."""
        patch = self.config["patch_size"]
        if self.image_encoder is None:
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
        """Predict from noisy masks, given their images or the features of these.

        Args:
            sample: Noisy masks, (n·B, K, H, W). Fewer masks than images belong to the first images; the others only
                get prior logits.
            timestep: One for all masks, or (n·B,).
            image: Images, (B, C, H, W); either these or `features`.
            features: Result of `encode_image`.
            return_dict: Return a [`SegmentationUNetOutput`] instead of a tuple.

        Raises:
            ValueError: If neither or both of image and features are given, or if the number of masks exceeds the
                number of images without being a multiple of it.
        """
        if (image is None) == (features is None):
            raise ValueError("Expected either `image`, or the result of `encode_image` as `features`.")
        features = self.encode_image(image) if features is None else features
        patch, condition = self.config["patch_size"], features[: len(sample)]
        condition = condition if self.image_encoder is None else condition.detach()
        repeats, rest = divmod(len(sample), len(condition))
        if rest:
            raise ValueError(f"Got {len(sample)} masks for {len(features)} images; expected as many for each image.")
        inputs = torch.cat([condition.repeat_interleave(repeats, dim=0), F.pixel_unshuffle(sample, patch)], dim=1)
        predicted = F.pixel_shuffle(self.denoiser(inputs, timestep).sample, patch)
        logits, prior_logits = None, self.prior_logits(features)
        if prior_logits is not None:
            prior = prior_logits[: len(sample)].detach().repeat_interleave(repeats, dim=0)
            logits = prior + self._likelihood_logits(sample, timestep) + predicted
            predicted = 2 * (logits.softmax(dim=1) if logits.shape[1] > 1 else logits.sigmoid()) - 1
        if not return_dict:
            return predicted, logits, prior_logits
        return SegmentationUNetOutput(sample=predicted, logits=logits, prior_logits=prior_logits)

    def _likelihood_logits(self, sample: torch.Tensor, timestep: torch.Tensor | float | int) -> torch.Tensor:
        """e(x_t, t): log odds of each pixel's labels given its own noisy value; some schedulers have fractional t."""
        products, t = self.alphas_cumprod.to(sample.device), torch.as_tensor(timestep, device=sample.device).float()
        signal = torch.lerp(products[t.floor().long()], products[t.ceil().long()], t.frac())
        gain = (2 * signal.sqrt() / (1 - signal)).clamp_max(MAX_GAIN)
        return gain.reshape(-1, 1, 1, 1).to(sample.dtype) * sample

    def to_json_string(self) -> str:
        """Return the configuration as JSON, without the folder that it was loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration and this file, so that the repository opens where the package is not installed."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))


def _check_configuration(config: Any) -> None:
    """Raise a ValueError if the configuration is inconsistent."""
    channels, out = config["mask_channels"], config["out_channels"]
    if out not in (None, channels, 2 * channels):
        raise ValueError(
            f"out_channels={out} for mask_channels={channels}: expected {channels}, or {2 * channels} to learn the "
            "variance too."
        )
    for name in ("denoiser_config", "image_encoder_config"):
        clashing = set(config[name] or {}) & set(DERIVED)
        if clashing:
            raise ValueError(
                f"{name} sets {', '.join(sorted(clashing))}, which follow from image_channels, mask_channels, "
                "out_channels, feature_channels, patch_size and sample_size. Remove them there."
            )
    patch = config["patch_size"]
    if config["sample_size"] % patch:
        raise ValueError(
            f"sample_size={config['sample_size']} is not divisible by patch_size={patch}. Pad the images or use "
            "smaller patches."
        )
    if config["image_encoder_config"] is None:
        return
    if config["feature_channels"] < patch**2 * channels:
        raise ValueError(
            f"feature_channels={config['feature_channels']}: expected at least {patch**2 * channels}, which hold the "
            f"logits of {channels} mask channels in patches of {patch}² pixels."
        )
    if out not in (None, channels):
        raise ValueError(
            f"out_channels={out} with an image encoder, whose denoiser predicts labels and no variance; expected "
            f"{channels}. Remove the image encoder or the variance."
        )
