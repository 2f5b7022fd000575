"""The learning problem of a latent diffusion model of volumes that is told covariates, for the engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor, nn

from meddiffusers.evaluation.generation_report import evaluate_generation
from meddiffusers.evaluation.panels import panel
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.volume_slices import PLANES, plane_slices
from meddiffusers.models.conditioned_unet import UNKNOWN
from meddiffusers.pipelines.latent_diffusion_pipeline import LatentDiffusionPipeline
from meddiffusers.training.latent_cache import cached_latents
from meddiffusers.training.latent_diffusion_model import LatentDiffusionConfig, of_volumes
from meddiffusers.training.latent_diffusion_task import LatentDiffusionTask
from meddiffusers.training.randomness import BatchRandom
from meddiffusers.training.task import Validation
from meddiffusers.training.text_data import pictures_of
from meddiffusers.training.volume_autoencoder_task import LEFT_RIGHT
from meddiffusers.training.volume_data import VolumeDataConfig, load_volume_data

SHOWN, EVALUATED, BATCH = 4, 64, 4


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
        moments = cached_latents(self.splits["train"], self.pipeline.vae, LEFT_RIGHT)
        self.train_dataset = CachedVolumes(moments, self.pipeline.unet.scaled(self.told_of("train")))

    def told_of(self, split: str) -> list[dict[str, Any]]:
        """Covariates of a split's volumes, in their own units."""
        names = list(self.pipeline.unet.config["covariates"] or {})
        rows = self.splits[split].select_columns(names) if names else [{}] * len(self.splits[split])
        return [dict(row) for row in rows]

    def told(self, batch: dict[str, Tensor], random: BatchRandom) -> dict[str, Tensor]:
        """Covariates (B, K): of some volumes none, of others not all."""
        covariates = batch["covariates"]
        if not covariates.shape[1]:
            return {}
        drawn = torch.minimum(random.rand(len(covariates), 1), random.rand(*covariates.shape)).to(covariates.device)
        return {"covariates": torch.where(drawn < self.config.condition_dropout, UNKNOWN, covariates)}

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        """Volumes of test covariates beside those whose covariates they are, the same noise each time."""
        images = self._flat(drawn_volumes(self.with_unet(modules["unet"]), self.told_of("test")[:SHOWN]))
        real = self._flat(pictures_of(self.splits["test"].select(range(min(SHOWN, len(self.splits["test"]))))).numpy())
        rows = {f"{kind} {name}": of[:, n] for n, name in enumerate(PLANES) for kind, of in _kinds(images, real)}
        return Validation({}, {"drawn": panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0)))})

    def evaluate(self, pipeline: LatentDiffusionPipeline, seed: int = 0) -> Report:
        """How like held-out volumes those of their covariates are in their middle slices, and whether any is known."""
        rows = self.splits["test"].select(range(min(EVALUATED, len(self.splits["test"]))))
        images = drawn_volumes(pipeline, self.told_of("test")[: len(rows)], seed)
        real, known = (self._flat(pictures_of(part).numpy()) for part in (rows, self.splits["train"]))
        dataset = f"{self.dataset_name}, test subjects"
        return evaluate_generation(self._flat(images), real, known, PLANES, dataset=dataset, seed=seed)

    def _flat(self, volumes: np.ndarray) -> np.ndarray:
        """(N, 3, S, S) the middle slices of the planes, of the first channel of volumes (N, C, X, Y, Z)."""
        return plane_slices(volumes[:, 0])


def drawn_volumes(pipeline: Any, told: list[dict[str, Any]], seed: int = 0, **settings: Any) -> np.ndarray:
    """Volumes (N, C, X, Y, Z) in [0, 1] of covariates, each from a generator of its own, which its number gives."""
    parts = []
    for first in range(0, len(told), BATCH):
        rows = told[first : first + BATCH]
        generators = [torch.Generator().manual_seed(seed * 1_000_003 + first + number) for number in range(len(rows))]
        given: dict[str, Any] = {"covariates": rows} if any(rows) else {"batch_size": len(rows)}
        output = pipeline(generator=generators, extrapolate=True, output_type="pt", **given, **settings)
        parts.append(output.images.cpu().numpy())
    return np.concatenate(parts)


def _kinds(images: np.ndarray, real: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return [("drawn", images), ("held-out", real)]
