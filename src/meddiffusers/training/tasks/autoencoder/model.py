"""The autoencoder before training: from settings, or of a repository to go on with.

Diffusers' `AutoencoderKL` for images; `MonaiAutoencoderKL` for volumes, and for images whose patches are channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diffusers import AutoencoderKL
from torch import Tensor

from meddiffusers.models.monai_autoencoder import MonaiAutoencoderKL
from meddiffusers.utils.settings import Range, check_fields, list_setting, setting


@dataclass
class AutoencoderConfig:
    """Which autoencoder, and how it learns."""

    pretrained_model_name_or_path: str | None = setting(None, "Folder or repository of an autoencoder to start from.")
    subfolder: str | None = setting(None, "Where in it the autoencoder is, such as vae.")
    freeze_encoder: bool = setting(False, "Train its decoder alone, with latents as they are.")
    latent_channels: int = setting(4, "Channels of a latent image.")
    block_out_channels: list[int] = list_setting([32, 64, 128], "Channels of the levels, each half the size.")
    layers_per_block: int = setting(1, "Residual blocks of a level.")
    norm_num_groups: int = setting(16, "Groups of the normalisation.")
    mid_block_attention: bool = setting(False, "Attention in the middle.")
    patch_size: int = setting(1, "Pixels of a side that are channels to the network, which is then faster.")
    crop_size: int | None = setting(
        None, "Learn from squares or cubes of this side, cut at random; else from the whole."
    )
    kl_weight: float = setting(1e-6, "β, of the divergence of the latents from a normal distribution.")
    perceptual_weight: float = setting(0.1, "Of the difference of an image network's features.")
    adversarial_weight: float = setting(0.0, "Of a discriminator of patches; 0: none.")
    discriminator_channels: int = setting(32, "Of its first layer.")
    save_in_fp16: bool = setting(False, "Round the trained weights to what half precision stores.")

    def __post_init__(self) -> None:
        check_fields(self, _RANGES)
        if self.freeze_encoder and not self.pretrained_model_name_or_path:
            raise ValueError(
                "freeze_encoder without pretrained_model_name_or_path: a new encoder has learnt nothing yet. Name the "
                "autoencoder to go on with."
            )


_COUNT, _WEIGHT = Range(1), Range(0)
_RANGES = {
    "latent_channels": _COUNT,
    "layers_per_block": _COUNT,
    "norm_num_groups": _COUNT,
    "discriminator_channels": _COUNT,
    "patch_size": _COUNT,
    "crop_size": _COUNT,
    "kl_weight": _WEIGHT,
    "perceptual_weight": _WEIGHT,
    "adversarial_weight": _WEIGHT,
}


class TrainedAutoencoder(AutoencoderKL):
    """Its forward pass does all that training needs, so that processes exchange the gradients of all weights."""

    encode: Any  # of diffusers, where type checkers do not see them
    decode: Any

    def forward(self, sample: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Decoded images and the divergence (B,), of images in [-1, 1] and unit noise of the latents' shape."""
        posterior = self.encode(sample).latent_dist
        return self.decode(posterior.mean + posterior.std * noise).sample, posterior.kl()


class TrainedMonaiAutoencoder(MonaiAutoencoderKL):
    """The same of MONAI's, of images or volumes."""

    def forward(self, sample: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Decoded images and the divergence (B,), of images in [-1, 1] and unit noise of the latents' shape."""
        found: Any = self.encode(sample, return_dict=False)[0]
        return self.decode(found.mean + found.std * noise, return_dict=False)[0], found.kl()


def load_autoencoder(name: str, subfolder: str | None, dims: int, *, trained: bool = False) -> Any:
    """A repository's autoencoder, of diffusers or ours; `trained`: with the forward pass of training.

    Raises:
        ValueError: one of other dimensions.
    """
    config = MonaiAutoencoderKL.load_config(name, subfolder=subfolder or "")
    if config.get("spatial_dims", 2) != dims:
        raise ValueError(f"{name} is an autoencoder in {config.get('spatial_dims', 2)} dimensions; expected {dims}.")
    if config["_class_name"] == MonaiAutoencoderKL.__name__:
        kind: Any = TrainedMonaiAutoencoder if trained else MonaiAutoencoderKL
    else:
        kind = TrainedAutoencoder if trained else AutoencoderKL
    return kind.from_pretrained(name, subfolder=subfolder or "")


def latent_factor(vae: Any) -> int:
    """Pixels of a side for each of a latent."""
    return vae.scale_factor if isinstance(vae, MonaiAutoencoderKL) else 2 ** (len(vae.config["block_out_channels"]) - 1)


def published(vae: Any) -> Any:
    """The autoencoder that is published of the trained one: the same class without the forward pass of training."""
    plain = MonaiAutoencoderKL if isinstance(vae, MonaiAutoencoderKL) else AutoencoderKL
    out = plain.from_config(vae.config)
    out.load_state_dict(vae.state_dict())
    return out.to(vae.device).eval()


def first_autoencoder(config: AutoencoderConfig, channels: int = 1, dims: int = 2, resolution: int = 64) -> Any:
    """New, or a repository's, for images of so many channels in so many dimensions.

    Raises:
        ValueError: a repository whose autoencoder is not for these.
    """
    if config.pretrained_model_name_or_path:
        name = config.pretrained_model_name_or_path
        vae = load_autoencoder(name, config.subfolder, dims, trained=True)
        if vae.config["in_channels"] != channels:
            raise ValueError(f"{name} is for {vae.config['in_channels']} channels; expected {channels}.")
        return vae
    if dims == 3 or config.patch_size > 1:
        return TrainedMonaiAutoencoder(
            spatial_dims=dims,
            in_channels=channels,
            out_channels=channels,
            num_res_blocks=config.layers_per_block,
            channels=config.block_out_channels,
            attention_levels=[False] * len(config.block_out_channels),
            latent_channels=config.latent_channels,
            norm_num_groups=config.norm_num_groups,
            patch_size=config.patch_size,
            with_encoder_nonlocal_attn=config.mid_block_attention,
            with_decoder_nonlocal_attn=config.mid_block_attention,
        )
    levels = len(config.block_out_channels)
    return TrainedAutoencoder(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(config.block_out_channels),
        layers_per_block=config.layers_per_block,
        latent_channels=config.latent_channels,
        norm_num_groups=config.norm_num_groups,
        mid_block_add_attention=config.mid_block_attention,
        sample_size=resolution,
    )
