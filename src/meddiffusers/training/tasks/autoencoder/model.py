"""The autoencoder before training: new from settings, or from a repository.

Images use diffusers' `AutoencoderKL`. Volumes, and images whose patches are channels, use `MonaiAutoencoderKL`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diffusers import AutoencoderKL
from torch import Tensor

from meddiffusers.models.monai_autoencoder import MonaiAutoencoderKL
from meddiffusers.training.tasks.autoencoder.repository import (
    DEFAULT_RANGE,
    autoencoder_image_range,
    load_autoencoder,
)
from meddiffusers.utils.settings import Range, check_fields, list_setting, setting


@dataclass
class AutoencoderConfig:
    """Settings of the autoencoder and of the loss."""

    pretrained_model_name_or_path: str | None = setting(None, "Repository or folder of the autoencoder to start from.")
    subfolder: str | None = setting(None, "Subfolder of the autoencoder in it, such as vae.")
    freeze_encoder: bool = setting(False, "Train only the decoder, so that the latents do not change.")
    latent_channels: int = setting(4, "Number of latent channels.")
    block_out_channels: list[int] = list_setting(
        [32, 64, 128], "Number of channels of each level; each level halves the size."
    )
    layers_per_block: int = setting(1, "Number of residual blocks in each level.")
    norm_num_groups: int = setting(16, "Number of groups in the group normalisation.")
    mid_block_attention: bool = setting(False, "Use attention in the middle block.")
    patch_size: int = setting(1, "Side of the patches of pixels that the network takes as channels, which is faster.")
    crop_size: int | None = setting(
        None, "Side of the random squares or cubes to train on; by default whole images or volumes."
    )
    kl_weight: float = setting(1e-6, "Weight β of the KL divergence of the latents from a normal distribution.")
    perceptual_weight: float = setting(0.1, "Weight of the perceptual distance.")
    adversarial_weight: float = setting(0.0, "Weight of the adversarial loss; 0 trains no discriminator.")
    discriminator_channels: int = setting(32, "Number of channels of the discriminator's first layer.")
    save_in_fp16: bool = setting(False, "Round the trained weights to half precision before saving.")

    def __post_init__(self) -> None:
        check_fields(self, _RANGES)
        if self.freeze_encoder and not self.pretrained_model_name_or_path:
            raise ValueError(
                "freeze_encoder without pretrained_model_name_or_path: a new encoder is not trained yet. Give the "
                "autoencoder to start from."
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
    """`AutoencoderKL` whose forward pass does all that training needs, so that DDP exchanges all gradients."""

    encode: Any  # of diffusers, where type checkers do not see them
    decode: Any

    def forward(self, sample: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Encode, sample and decode.

        Args:
            sample: Images or volumes (B, C, …) in [-1, 1].
            noise: Standard normal noise in the shape of the latents.

        Returns:
            Decoded images or volumes (B, C, …), and the KL divergence (B,).
        """
        posterior = self.encode(sample).latent_dist
        return self.decode(posterior.mean + posterior.std * noise).sample, posterior.kl()


class TrainedMonaiAutoencoder(MonaiAutoencoderKL):
    """`MonaiAutoencoderKL` with the same forward pass."""

    def forward(self, sample: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Encode, sample and decode.

        Args:
            sample: Images or volumes (B, C, …) in [-1, 1].
            noise: Standard normal noise in the shape of the latents.

        Returns:
            Decoded images or volumes (B, C, …), and the KL divergence (B,).
        """
        posterior: Any = self.encode(sample, return_dict=False)[0]
        return self.decode(posterior.mean + posterior.std * noise, return_dict=False)[0], posterior.kl()


def latent_factor(vae: Any) -> int:
    """Number of pixels along each axis for one latent."""
    return vae.scale_factor if isinstance(vae, MonaiAutoencoderKL) else 2 ** (len(vae.config["block_out_channels"]) - 1)


def to_published(vae: Any) -> Any:
    """A copy of the trained autoencoder in the class that is published, without the forward pass of training."""
    plain = MonaiAutoencoderKL if isinstance(vae, MonaiAutoencoderKL) else AutoencoderKL
    out = plain.from_config(vae.config)
    out.load_state_dict(vae.state_dict())
    return out.to(vae.device).eval()


def build_autoencoder(config: AutoencoderConfig, channels: int = 1, spatial_dims: int = 2, resolution: int = 64) -> Any:
    """The autoencoder before training, new or from a repository.

    Args:
        config: Settings of the network, and of the repository if there is one.
        channels: Number of channels of the images or volumes.
        spatial_dims: 2 for images, 3 for volumes.
        resolution: Side of the images in pixels.

    Raises:
        ValueError: The repository's autoencoder is for other channels, dimensions or intensities.
    """
    if config.pretrained_model_name_or_path:
        name = config.pretrained_model_name_or_path
        vae = load_autoencoder(
            name, config.subfolder, spatial_dims, classes=(TrainedAutoencoder, TrainedMonaiAutoencoder)
        )
        if vae.config["in_channels"] != channels:
            raise ValueError(f"{name} is for {vae.config['in_channels']} channels; expected {channels}.")
        if (theirs := autoencoder_image_range(name, config.subfolder)) != DEFAULT_RANGE:
            raise ValueError(
                f"The autoencoder of {name} takes intensities from {theirs[0]:g} to {theirs[1]:g}; training continues "
                f"only those from {DEFAULT_RANGE[0]:g} to {DEFAULT_RANGE[1]:g}. Train a new one, or a denoiser on it."
            )
        return vae
    if spatial_dims == 3 or config.patch_size > 1:
        return TrainedMonaiAutoencoder(
            spatial_dims=spatial_dims,
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
