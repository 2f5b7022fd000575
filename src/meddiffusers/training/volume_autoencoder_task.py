"""The learning problem of `autoencoder_task`, of volumes: a `MonaiAutoencoderKL` in three dimensions.

Volumes are mirrored from left to right. What is compared by its looks are slices, one of each plane, drawn at random.
"""

from __future__ import annotations

from typing import Any, ClassVar

import datasets
import numpy as np
import torch
from torch import Tensor

from meddiffusers.evaluation.volume_slices import plane_slices
from meddiffusers.models.monai_autoencoder import MonaiAutoencoderKL
from meddiffusers.training.autoencoder_task import AutoencoderConfig, AutoencoderTask
from meddiffusers.training.randomness import BatchRandom
from meddiffusers.training.volume_data import VolumeDataConfig, load_volume_data

LEFT_RIGHT = 2  # the axis of (B, C, X, Y, Z)


class TrainedVolumeAutoencoder(MonaiAutoencoderKL):
    """Its forward pass does all that training needs, so that processes exchange the gradients of all weights."""

    def forward(self, sample: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Decoded volumes and the divergence (B,), of volumes in [-1, 1] and unit noise of the latents' shape."""
        found: Any = self.encode(sample, return_dict=False)[0]
        return self.decode(found.mean + found.std * noise, return_dict=False)[0], found.kl()


class VolumeAutoencoderTask(AutoencoderTask):
    """Builds the networks and their data, unless these are given as `splits`.

    Raises:
        ValueError: a repository whose autoencoder is not of volumes of as many channels.
    """

    dims: ClassVar[int] = 3
    published: ClassVar[Any] = MonaiAutoencoderKL
    measured: ClassVar[int] = 64

    def _load(self, data: VolumeDataConfig) -> datasets.DatasetDict:
        return load_volume_data(data)

    def _first(self, data: VolumeDataConfig, config: AutoencoderConfig) -> TrainedVolumeAutoencoder:
        name, channels = config.pretrained_model_name_or_path, len(data.sequences)
        if name:
            vae = TrainedVolumeAutoencoder.from_pretrained(name, subfolder=config.subfolder or "")
            found = vae.config["in_channels"], vae.config["spatial_dims"]
            if found != (channels, 3):
                raise ValueError(
                    f"{name} is for {found[0]} channels in {found[1]} dimensions; expected {channels} in 3."
                )
            return vae
        return TrainedVolumeAutoencoder(
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

    def _mirrored(self, image: Tensor, random: BatchRandom) -> Tensor:
        turned = (random.rand(len(image), 1, 1, 1, 1) < 0.5).to(image.device)
        return torch.where(turned, image.flip(LEFT_RIGHT), image)

    def _seen(self, decoded: Tensor, image: Tensor, random: BatchRandom) -> list[tuple[Tensor, Tensor]]:
        """Of each volume a slice of each plane, all channels one after the other."""
        count, pairs = len(image), []
        for axis in (2, 3, 4):
            chosen = (random.rand(count) * image.shape[axis]).long().to(image.device)
            index = chosen.view(-1, *(1,) * 4).expand(-1, image.shape[1], *_other(image.shape[2:], axis - 2))
            one, other = (
                volume.gather(axis, index).squeeze(axis).flatten(0, 1)[:, None] for volume in (decoded, image)
            )
            pairs.append((one, other))
        return pairs

    def _flat(self, images: Tensor) -> np.ndarray:
        """The middle slices of the three planes of each volume's first channel, upright and padded to one size."""
        cuts = plane_slices(images[:, 0].numpy())
        return cuts.reshape(-1, *cuts.shape[2:])


def _other(sides: torch.Size, axis: int) -> list[int]:
    """Sides of a slice across an axis, which keeps that axis with 1."""
    return [1 if place == axis else side for place, side in enumerate(sides)]
