"""Training task of a latent diffusion model of volumes, conditioned on covariates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import datasets
import numpy as np
import torch
from torch import Tensor, nn

from meddiffusers.datasets.rows import images_of
from meddiffusers.datasets.volume_config import VolumeDataConfig, load_volume_data
from meddiffusers.evaluation.figures.orthogonal_slices import PLANES, plane_slices
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.generation.fidelity import evaluate_generation
from meddiffusers.evaluation.generation.run import covariates_of, generate_volumes
from meddiffusers.evaluation.report import Report
from meddiffusers.models.conditioned_unet import UNKNOWN
from meddiffusers.pipelines.latent_diffusion_pipeline import LatentDiffusionPipeline
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.engine.task import Validation
from meddiffusers.training.tasks.autoencoder.volumes import LEFT_RIGHT
from meddiffusers.training.tasks.latent_diffusion.cache import cached_latents
from meddiffusers.training.tasks.latent_diffusion.model import LatentDiffusionConfig, build_volume_pipeline
from meddiffusers.training.tasks.latent_diffusion.task import LatentDiffusionTask

NUM_FIGURE, NUM_EVALUATED = 4, 64


class CachedVolumes:
    """A map-style data set: "moments" (2c, x, y, z) of a volume or its mirror image, scaled "covariates" (K,)."""

    def __init__(self, moments: np.ndarray, covariates: Tensor) -> None:
        self.moments, self.covariates = moments, covariates

    def __len__(self) -> int:
        return len(self.moments)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        view = np.random.randint(self.moments.shape[1])  # seeded by the engine
        moments = torch.from_numpy(self.moments[index, view].astype(np.float32))
        return {"moments": moments, "covariates": self.covariates[index]}


class VolumeDiffusionTask(LatentDiffusionTask):
    """Trains a `LatentDiffusionPipeline` of volumes on latents that are encoded once.

    Args:
        data: Settings of the volumes.
        config: Settings of the denoiser and of the loss.
        splits: The splits "train" and "test", if they are loaded already.

    Raises:
        ValueError: As `build_volume_pipeline` and `load_volume_data`; covariates outside the ranges of a repository.
    """

    def __init__(
        self,
        data: VolumeDataConfig,
        config: LatentDiffusionConfig,
        splits: Mapping[str, datasets.Dataset] | None = None,
    ) -> None:
        self.splits = splits or load_volume_data(data)
        super().__init__(build_volume_pipeline(data, config, self.splits["train"]), config)
        self.dataset_name = Path(data.dataset_name).name  # local paths are never published
        moments = cached_latents(self.splits["train"], self.pipeline, LEFT_RIGHT)
        self.train_dataset = CachedVolumes(
            moments, self.pipeline.unet.scale_covariates(covariates_of(self.pipeline, self.splits["train"]))
        )

    def conditions(self, batch: dict[str, Tensor], random: BatchRandom) -> dict[str, Tensor]:
        """Covariates (B, K), of which all or some are dropped for some volumes."""
        covariates = batch["covariates"]
        if not covariates.shape[1]:
            return {}
        uniform = torch.minimum(random.rand(len(covariates), 1), random.rand(*covariates.shape)).to(covariates.device)
        return {"covariates": torch.where(uniform < self.config.condition_dropout, UNKNOWN, covariates)}

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        """A figure of test volumes, and of volumes generated from their covariates and the same noise each time."""
        tests = self._test_rows(NUM_FIGURE)
        images = generate_volumes(self.with_unet(modules["unet"]), covariates_of(self.pipeline, tests))
        generated, real = _middle_slices(images), _middle_slices(images_of(tests))
        panels = {
            f"{kind} {plane}": slices[:, number]
            for number, plane in enumerate(PLANES)
            for kind, slices in (("generated", generated), ("held-out", real))
        }
        return Validation({}, {"generated": panel(panels, ranges=dict.fromkeys(panels, (0.0, 1.0)))})

    def evaluate(self, pipeline: LatentDiffusionPipeline, seed: int = 0) -> Report:
        """Fidelity and memorization of volumes that are generated from held-out covariates, by their middle slices."""
        rows = self._test_rows(NUM_EVALUATED)
        images = generate_volumes(pipeline, covariates_of(pipeline, rows), seed)
        real, train = (_middle_slices(images_of(part)) for part in (rows, self.splits["train"]))
        dataset = f"{self.dataset_name}, test subjects"
        return evaluate_generation(_middle_slices(images), real, train, PLANES, dataset=dataset, seed=seed)

    def _test_rows(self, count: int) -> datasets.Dataset:
        return self.splits["test"].select(range(min(count, len(self.splits["test"]))))


def _middle_slices(volumes: np.ndarray) -> np.ndarray:
    """The middle slices of the three planes, (B, 3, S, S), of the first channel of volumes (B, C, X, Y, Z)."""
    return plane_slices(volumes[:, 0])
