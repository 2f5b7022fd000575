"""Training task of an autoencoder of slices with several modalities, which share one latent image."""

from __future__ import annotations

from typing import Any, ClassVar

import datasets
import numpy as np
import torch
from torch import Tensor

from meddiffusers.datasets.labelled_config import LabelledDataConfig, load_labelled_data
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.tasks.autoencoder.model import AutoencoderConfig, build_autoencoder
from meddiffusers.training.tasks.autoencoder.task import AutoencoderTask


class SliceAutoencoderTask(AutoencoderTask):
    """Trains an `AutoencoderKL`, or a `MonaiAutoencoderKL` with patches, on labelled slices.

    Raises:
        ValueError: The repository's autoencoder has another number of channels than there are modalities.
    """

    spatial_dims: ClassVar[int] = 2
    left_right_axis: ClassVar[int] = 3
    num_scale_images: ClassVar[int] = 512

    def _load_data(self, data: LabelledDataConfig) -> datasets.DatasetDict:
        return load_labelled_data(data)

    def _build_vae(self, data: LabelledDataConfig, config: AutoencoderConfig) -> Any:
        return build_autoencoder(config, len(data.modalities), resolution=data.resolution)

    def _perceptual_pairs(self, decoded: Tensor, image: Tensor, random: BatchRandom) -> list[tuple[Tensor, Tensor]]:
        """One random modality of each slice: the same expectation as all of them, in a fraction of the time."""
        chosen = (random.rand(len(image)) * image.shape[1]).long().to(image.device)
        rows = torch.arange(len(image), device=image.device)
        return [(decoded[rows, chosen][:, None], image[rows, chosen][:, None])]

    def _to_slices(self, images: Tensor) -> np.ndarray:
        """(B·C, H, W): the modalities of each slice, one after the other."""
        return images.flatten(0, 1).numpy()
