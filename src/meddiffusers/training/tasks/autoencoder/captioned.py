"""Training task of an autoencoder of single-channel slices, for text-to-MR models: diffusers' `AutoencoderKL`."""

from __future__ import annotations

from typing import ClassVar

import datasets
import numpy as np
from torch import Tensor

from meddiffusers.datasets.captioned_config import CaptionedDataConfig, load_captioned_data
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.tasks.autoencoder.model import AutoencoderConfig, TrainedAutoencoder, build_autoencoder
from meddiffusers.training.tasks.autoencoder.task import AutoencoderTask


class CaptionedAutoencoderTask(AutoencoderTask):
    """Trains an `AutoencoderKL` on the images of a captioned data set.

    Raises:
        ValueError: A `patch_size`, which this autoencoder does not have; a repository for several channels.
    """

    spatial_dims: ClassVar[int] = 2
    left_right_axis: ClassVar[int] = 3
    num_scale_images: ClassVar[int] = 512

    def _load_data(self, data: CaptionedDataConfig) -> datasets.DatasetDict:
        return load_captioned_data(data)

    def _build_vae(self, data: CaptionedDataConfig, config: AutoencoderConfig) -> TrainedAutoencoder:
        if config.patch_size != 1:
            raise ValueError(
                f"patch_size={config.patch_size}; text-to-MR models use diffusers' AutoencoderKL, which has no "
                "patches. Leave it out."
            )
        return build_autoencoder(config, resolution=data.resolution)

    def _perceptual_pairs(self, decoded: Tensor, image: Tensor, random: BatchRandom) -> list[tuple[Tensor, Tensor]]:
        return [(decoded, image)]

    def _to_slices(self, images: Tensor) -> np.ndarray:
        return images[:, 0].numpy()
