"""The learning problem of `autoencoder_task`, of volumes: a `MonaiAutoencoderKL` in three dimensions.

Volumes are mirrored from left to right. What is compared by its looks are slices, one of each plane, drawn at random.
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
from meddiffusers.training.tasks.autoencoder.model import AutoencoderConfig, first_autoencoder
from meddiffusers.training.tasks.autoencoder.task import AutoencoderTask

LEFT_RIGHT = 2  # the axis of (B, C, X, Y, Z)


class VolumeAutoencoderTask(AutoencoderTask):
    """Builds the networks and their data, unless these are given as `splits`.

    Raises:
        ValueError: a repository whose autoencoder is not of volumes of as many channels.
    """

    dims: ClassVar[int] = 3
    measured: ClassVar[int] = 64

    def _load(self, data: VolumeDataConfig) -> datasets.DatasetDict:
        return load_volume_data(data)

    def _first(self, data: VolumeDataConfig, config: AutoencoderConfig) -> Any:
        return first_autoencoder(config, len(data.modalities), dims=3)

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
