"""Training task of an autoencoder of volumes: a `MonaiAutoencoderKL` in three dimensions.

The perceptual distance compares one random slice of each plane.
"""

from __future__ import annotations

from typing import Any, ClassVar

import datasets
import numpy as np
import torch
from torch import Tensor

from meddiffusers.datasets.volume_config import VolumeDataConfig, load_volume_data
from meddiffusers.evaluation.figures.orthogonal_slices import plane_slices
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.tasks.autoencoder.model import AutoencoderConfig, build_autoencoder
from meddiffusers.training.tasks.autoencoder.task import AutoencoderTask

LEFT_RIGHT = 2  # axis of (B, C, X, Y, Z)


class VolumeAutoencoderTask(AutoencoderTask):
    """Trains a `MonaiAutoencoderKL` on volumes.

    Raises:
        ValueError: The repository's autoencoder is not for volumes with as many channels.
    """

    spatial_dims: ClassVar[int] = 3
    left_right_axis: ClassVar[int] = LEFT_RIGHT
    num_scale_images: ClassVar[int] = 64

    def _load_data(self, data: VolumeDataConfig) -> datasets.DatasetDict:
        return load_volume_data(data)

    def _build_vae(self, data: VolumeDataConfig, config: AutoencoderConfig) -> Any:
        return build_autoencoder(config, len(data.modalities), spatial_dims=3)

    def _perceptual_pairs(self, decoded: Tensor, image: Tensor, random: BatchRandom) -> list[tuple[Tensor, Tensor]]:
        """A random slice of each plane of each volume, all channels one after the other."""
        count, pairs = len(image), []
        for axis in (2, 3, 4):
            chosen = (random.rand(count) * image.shape[axis]).long().to(image.device)
            index = chosen.view(-1, *(1,) * 4).expand(-1, image.shape[1], *_slice_sides(image.shape[2:], axis - 2))
            decoded_slice, slice_ = (
                volume.gather(axis, index).squeeze(axis).flatten(0, 1)[:, None] for volume in (decoded, image)
            )
            pairs.append((decoded_slice, slice_))
        return pairs

    def _to_slices(self, images: Tensor) -> np.ndarray:
        """The middle slices of the three planes of each volume's first channel, upright and padded to one size."""
        slices = plane_slices(images[:, 0].numpy())
        return slices.reshape(-1, *slices.shape[2:])


def _slice_sides(sides: torch.Size, axis: int) -> list[int]:
    """Sides of a slice across an axis, which remains with size 1."""
    return [1 if place == axis else side for place, side in enumerate(sides)]
