"""The learning problem of a latent diffusion model of volumes that is told covariates, for the engine."""

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
from meddiffusers.training.tasks.latent_diffusion.model import LatentDiffusionConfig, of_volumes
from meddiffusers.training.tasks.latent_diffusion.task import LatentDiffusionTask

SHOWN, EVALUATED = 4, 64


class CachedVolumes:
    """A map-style data set: "moments" (2c, …) of a volume or its mirror image, "covariates" (K,) scaled."""

    def __init__(self, moments: np.ndarray, covariates: Tensor) -> None:
        self.moments, self.covariates = moments, covariates

    def __len__(self) -> int:
        return len(self.moments)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        view = np.random.randint(self.moments.shape[1])  # the engine seeds it
        moments = torch.from_numpy(self.moments[index, view].astype(np.float32))
        return {"moments": moments, "covariates": self.covariates[index]}


class VolumeDiffusionTask(LatentDiffusionTask):
    """Builds the model and its data, unless these are given as `splits`.

    Raises:
        ValueError: as `of_volumes` and `load_volume_data` do, and for covariates outside a repository's ranges.
    """

    def __init__(
        self,
        data: VolumeDataConfig,
        config: LatentDiffusionConfig,
        splits: Mapping[str, datasets.Dataset] | None = None,
    ) -> None:
        self.splits = splits or load_volume_data(data)
        super().__init__(of_volumes(data, config, self.splits["train"]), config)
        self.dataset_name = Path(data.dataset_name).name  # a folder's place is nobody's business
        moments = cached_latents(self.splits["train"], self.pipeline, LEFT_RIGHT)
        self.train_dataset = CachedVolumes(
            moments, self.pipeline.unet.scale_covariates(covariates_of(self.pipeline, self.splits["train"]))
        )

    def told(self, batch: dict[str, Tensor], random: BatchRandom) -> dict[str, Tensor]:
        """Covariates (B, K): of some volumes none, of others not all."""
        covariates = batch["covariates"]
        if not covariates.shape[1]:
            return {}
        drawn = torch.minimum(random.rand(len(covariates), 1), random.rand(*covariates.shape)).to(covariates.device)
        return {"covariates": torch.where(drawn < self.config.condition_dropout, UNKNOWN, covariates)}

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        """Volumes of test covariates beside those whose covariates they are, the same noise each time."""
        tests = self._tests(SHOWN)
        told = covariates_of(self.pipeline, tests)
        images = self._flat(generate_volumes(self.with_unet(modules["unet"]), told))
        real = self._flat(images_of(tests))
        rows = {f"{kind} {name}": of[:, n] for n, name in enumerate(PLANES) for kind, of in _kinds(images, real)}
        return Validation({}, {"drawn": panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0)))})

    def evaluate(self, pipeline: LatentDiffusionPipeline, seed: int = 0) -> Report:
        """How like held-out volumes those of their covariates are in their middle slices, and whether any is known."""
        rows = self._tests(EVALUATED)
        images = generate_volumes(pipeline, covariates_of(pipeline, rows), seed)
        real, known = (self._flat(images_of(part)) for part in (rows, self.splits["train"]))
        dataset = f"{self.dataset_name}, test subjects"
        return evaluate_generation(self._flat(images), real, known, PLANES, dataset=dataset, seed=seed)

    def _tests(self, count: int) -> datasets.Dataset:
        return self.splits["test"].select(range(min(count, len(self.splits["test"]))))

    def _flat(self, volumes: np.ndarray) -> np.ndarray:
        """(N, 3, S, S) the middle slices of the planes, of the first channel of volumes (N, C, X, Y, Z)."""
        return plane_slices(volumes[:, 0])


def _kinds(images: np.ndarray, real: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return [("drawn", images), ("held-out", real)]
