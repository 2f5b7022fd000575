"""Training task of a latent diffusion model of slices, conditioned on label maps, on labels or on nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import datasets
import numpy as np
import torch
from torch import Tensor, nn

from meddiffusers.datasets.labelled_config import LabelledDataConfig, load_labelled_data
from meddiffusers.datasets.rows import images_of
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.generation.fidelity import evaluate_generation
from meddiffusers.evaluation.generation.run import first_rater_masks, generate_slices
from meddiffusers.evaluation.report import Report
from meddiffusers.models.conditioned_unet import UNKNOWN
from meddiffusers.pipelines.latent_diffusion_pipeline import LatentDiffusionPipeline
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.engine.task import Validation
from meddiffusers.training.tasks.latent_diffusion.cache import cached_latents
from meddiffusers.training.tasks.latent_diffusion.model import LatentDiffusionConfig, build_slice_pipeline
from meddiffusers.training.tasks.latent_diffusion.task import LatentDiffusionTask

LEFT_RIGHT = 3  # axis of (B, C, H, W)
NUM_FIGURE, NUM_EVALUATED = 8, 256


class CachedSlices:
    """A map-style data set: "moments" (2c, h, w) of a slice or its mirror image, "masks" (H, W) of one rater."""

    def __init__(self, moments: np.ndarray, rows: datasets.Dataset) -> None:
        self.moments, self.masks = moments, rows.select_columns(["masks"]).with_format("numpy")

    def __len__(self) -> int:
        return len(self.moments)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        masks = np.asarray(self.masks[index]["masks"])
        view, rater = np.random.randint((self.moments.shape[1], len(masks)))  # seeded by the engine
        mask = masks[rater, :, ::-1] if view else masks[rater]
        moments = torch.from_numpy(self.moments[index, view].astype(np.float32))
        return {"moments": moments, "masks": torch.from_numpy(mask.astype(np.int64))}


class SliceDiffusionTask(LatentDiffusionTask):
    """Trains a `LatentDiffusionPipeline` of slices on latents that are encoded once.

    Args:
        data: Settings of the data set.
        config: Settings of the denoiser, of its conditioning and of the loss.
        splits: The splits "train" and "test", if they are loaded already.

    Raises:
        ValueError: As `build_slice_pipeline` and `load_labelled_data`.
    """

    def __init__(
        self,
        data: LabelledDataConfig,
        config: LatentDiffusionConfig,
        splits: Mapping[str, datasets.Dataset] | None = None,
    ) -> None:
        self.splits = splits or load_labelled_data(data)
        super().__init__(build_slice_pipeline(data, config), config)
        self.dataset_name = Path(data.dataset_name).name  # local paths are never published
        moments = cached_latents(self.splits["train"], self.pipeline, LEFT_RIGHT)
        self.train_dataset = CachedSlices(moments, self.splits["train"])

    def conditions(self, batch: dict[str, Tensor], random: BatchRandom) -> dict[str, Tensor]:
        """Label maps (B, H, W) or labels (B,), dropped for some slices."""
        masks, unet = batch["masks"], self.pipeline.unet
        if not unet.mask_labels and not unet.id2label:
            return {}
        dropped = (random.rand(len(masks)) < self.config.condition_dropout).to(masks.device)
        if unet.mask_labels:
            return {"masks": torch.where(dropped[:, None, None], int(UNKNOWN), masks)}
        return {"class_labels": torch.where(dropped, len(unet.id2label), masks.flatten(1).any(dim=1).long())}

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        """A figure of test slices, and of slices generated from their conditions and the same noise each time."""
        rows = self._test_rows(NUM_FIGURE)
        masks, real = first_rater_masks(rows), images_of(rows)
        images = generate_slices(self.with_unet(modules["unet"]), masks)
        panels: dict[str, np.ndarray] = {"mask": masks / max(masks.max(), 1)}
        for channel, name in enumerate(self.pipeline.modalities):
            panels |= {f"generated {name}": images[:, channel], f"held-out {name}": real[:, channel]}
        return Validation({}, {"generated": panel(panels, ranges=dict.fromkeys(panels, (0.0, 1.0)))})

    def evaluate(self, pipeline: LatentDiffusionPipeline, seed: int = 0) -> Report:
        """Fidelity and memorization of slices that are generated from the conditions of held-out slices."""
        rows = self._test_rows(NUM_EVALUATED)
        images = generate_slices(pipeline, first_rater_masks(rows), seed)
        real, train = (images_of(part) for part in (rows, self.splits["train"]))
        dataset = f"{self.dataset_name}, test subjects"
        return evaluate_generation(images, real, train, pipeline.modalities, dataset=dataset, seed=seed)

    def _test_rows(self, count: int) -> datasets.Dataset:
        return self.splits["test"].select(range(min(count, len(self.splits["test"]))))
