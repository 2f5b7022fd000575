"""The learning problem of `autoencoder_task`, of slices with several modalities, which one latent image holds."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor

from meddiffusers.datasets.labelled_config import LabelledDataConfig, load_labelled_data
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.tasks.autoencoder.model import AutoencoderConfig, first_autoencoder
from meddiffusers.training.tasks.autoencoder.task import AutoencoderTask


class SliceAutoencoderTask(AutoencoderTask):
    """Builds the networks and their data, unless these are given as `splits`.

    Raises:
        ValueError: a repository whose autoencoder has another number of channels than there are modalities.
    """

    def _load(self, data: LabelledDataConfig) -> datasets.DatasetDict:
        return load_labelled_data(data)

    def _first(self, data: LabelledDataConfig, config: AutoencoderConfig) -> Any:
        return first_autoencoder(config, len(data.modalities), resolution=data.resolution)

    def _seen(self, decoded: Tensor, image: Tensor, random: BatchRandom) -> list[tuple[Tensor, Tensor]]:
        """One modality of each slice by chance: right on average, and a fraction of the time of all of them."""
        chosen = (random.rand(len(image)) * image.shape[1]).long().to(image.device)
        rows = torch.arange(len(image), device=image.device)
        return [(decoded[rows, chosen][:, None], image[rows, chosen][:, None])]

    def _flat(self, images: Tensor) -> np.ndarray:
        """(N·C, H, W), the modalities of a slice one after the other."""
        return images.flatten(0, 1).numpy()
