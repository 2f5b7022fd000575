"""The learning problem of a latent diffusion model of slices, told label maps, labels or nothing, for the engine."""

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
from meddiffusers.training.tasks.latent_diffusion.model import LatentDiffusionConfig, of_slices
from meddiffusers.training.tasks.latent_diffusion.task import LatentDiffusionTask

LEFT_RIGHT = 3  # the axis of (B, C, H, W)
SHOWN, EVALUATED = 8, 256


class CachedSlices:
    """A map-style data set: "moments" (2c, h, w) of a slice or its mirror image, and one rater's "masks" (H, W)."""

    def __init__(self, moments: np.ndarray, rows: datasets.Dataset) -> None:
        self.moments, self.masks = moments, rows.select_columns(["masks"]).with_format("numpy")

    def __len__(self) -> int:
        return len(self.moments)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        masks = np.asarray(self.masks[index]["masks"])
        view, rater = np.random.randint((self.moments.shape[1], len(masks)))  # the engine seeds it
        mask = masks[rater, :, ::-1] if view else masks[rater]
        moments = torch.from_numpy(self.moments[index, view].astype(np.float32))
        return {"moments": moments, "masks": torch.from_numpy(mask.astype(np.int64))}


class SliceDiffusionTask(LatentDiffusionTask):
    """Builds the model and its data, unless these are given as `splits`.

    What the network is told is what it takes: label maps, or whether a slice has any foreground, or nothing.

    Raises:
        ValueError: as `of_slices` and `load_labelled_data` do.
    """

    def __init__(
        self,
        data: LabelledDataConfig,
        config: LatentDiffusionConfig,
        splits: Mapping[str, datasets.Dataset] | None = None,
    ) -> None:
        self.splits = splits or load_labelled_data(data)
        super().__init__(of_slices(data, config), config)
        self.dataset_name = Path(data.dataset_name).name  # a folder's place is nobody's business
        moments = cached_latents(self.splits["train"], self.pipeline, LEFT_RIGHT)
        self.train_dataset = CachedSlices(moments, self.splits["train"])

    def told(self, batch: dict[str, Tensor], random: BatchRandom) -> dict[str, Tensor]:
        """Label maps (B, H, W) or labels (B,), of some slices none."""
        masks, unet = batch["masks"], self.pipeline.unet
        if not unet.mask_labels and not unet.id2label:
            return {}
        left_out = (random.rand(len(masks)) < self.config.condition_dropout).to(masks.device)
        if unet.mask_labels:
            return {"masks": torch.where(left_out[:, None, None], int(UNKNOWN), masks)}
        return {"class_labels": torch.where(left_out, len(unet.id2label), masks.flatten(1).any(dim=1).long())}

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        """Slices of what is known of test slices beside these, the same noise each time."""
        rows = self._tests(SHOWN)
        masks, real = first_rater_masks(rows), images_of(rows)
        images = generate_slices(self.with_unet(modules["unet"]), masks)
        shown: dict[str, np.ndarray] = {"mask": masks / max(masks.max(), 1)}
        for number, name in enumerate(self.pipeline.modalities):
            shown |= {f"drawn {name}": images[:, number], f"held-out {name}": real[:, number]}
        return Validation({}, {"drawn": panel(shown, ranges=dict.fromkeys(shown, (0.0, 1.0)))})

    def evaluate(self, pipeline: LatentDiffusionPipeline, seed: int = 0) -> Report:
        """How like held-out slices those of their masks or labels are, and whether any is a training slice."""
        rows = self._tests(EVALUATED)
        images = generate_slices(pipeline, first_rater_masks(rows), seed)
        real, known = (images_of(part) for part in (rows, self.splits["train"]))
        dataset = f"{self.dataset_name}, test subjects"
        return evaluate_generation(images, real, known, pipeline.modalities, dataset=dataset, seed=seed)

    def _tests(self, count: int) -> datasets.Dataset:
        return self.splits["test"].select(range(min(count, len(self.splits["test"]))))
