"""Training task of a conditional segmentation diffusion model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import datasets
import numpy as np
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.metrics.overlap import overlap
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.segmentation.report import evaluate_segmentation
from meddiffusers.evaluation.segmentation.run import run_segmentation
from meddiffusers.pipelines.conditional_segmentation_pipeline import ConditionalSegmentationPipeline
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.engine.task import Validation
from meddiffusers.training.tasks.labelled_slices import LabelledSliceTask
from meddiffusers.training.tasks.segmentation.loss import SegmentationDiffusionLoss
from meddiffusers.training.tasks.segmentation.model import SegmentationModelConfig, build_segmentation_pipeline
from meddiffusers.training.tasks.unets import add_adapter, round_to_fp16, save_adapter

NUM_VALIDATED, NUM_FIGURE = 48, 8  # test images of a validation, and those in its figure


class SegmentationTask(LabelledSliceTask):
    """Trains a `ConditionalSegmentationPipeline` with a `SegmentationDiffusionLoss`.

    Args:
        data: Settings of the data set.
        config: Settings of the network and of the loss.
        splits: The splits "train" and "test", if they are loaded already.

    Raises:
        ValueError: As `build_segmentation_pipeline`, `SegmentationDiffusionLoss` and `load_labelled_data`.
    """

    def __init__(
        self,
        data: LabelledDataConfig,
        config: SegmentationModelConfig,
        splits: Mapping[str, datasets.Dataset] | None = None,
    ) -> None:
        self.config = config
        self.pipeline = build_segmentation_pipeline(data, config)
        self.unet = self.pipeline.unet
        if config.rank:
            add_adapter(self.unet, config.rank, config.lora_alpha)
        self.diffusion_loss = SegmentationDiffusionLoss(self.pipeline, config)
        super().__init__(data, splits)
        self.pipeline.preprocess(self.train_dataset[0]["image"])  # reports a wrong size before training

    @property
    def modules(self) -> Mapping[str, ModelMixin]:
        """The U-Net."""
        return {"unet": self.unet}

    def loss(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Tensor], random: BatchRandom
    ) -> dict[str, Tensor]:
        """The terms of `SegmentationDiffusionLoss`."""
        return self.diffusion_loss(modules["unet"], batch, random)

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        """Dice of a single sample on test images, and a figure of images, references and masks."""
        rows = self.test_rows(NUM_VALIDATED)
        result = run_segmentation(self._with_unet(modules["unet"]), rows, ensemble_size=1)
        whole = overlap(result.mask > 0, result.reference > 0, (1,), result.spacing).dice[result.area > 0]
        largest = np.argsort(-result.area, kind="stable")[:NUM_FIGURE]
        images = {name: getattr(result, name)[largest] for name in ("images", "reference", "mask")}
        return Validation({"dice": float(whole.mean())} if len(whole) else {}, {"segmentation": panel(images)})

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> ConditionalSegmentationPipeline:
        """The pipeline with the trained network, rounded to half precision if it is saved so."""
        if self.config.save_in_fp16:
            round_to_fp16(modules["unet"])
        return self._with_unet(modules["unet"])

    def save(self, pipeline: ConditionalSegmentationPipeline, folder: Path) -> None:
        """Save the whole pipeline, or only the adapter if one was trained."""
        if self.config.rank:
            save_adapter(pipeline, folder)
        else:
            pipeline.save_pretrained(folder)

    def evaluate(self, pipeline: ConditionalSegmentationPipeline, seed: int = 0) -> Report:
        """Metrics and figures of the trained pipeline on the test images."""
        result = run_segmentation(pipeline, self.splits["test"], seed=seed)
        return evaluate_segmentation(result, dataset=f"{self.dataset_name}, test subjects", seed=seed)

    def _with_unet(self, unet: nn.Module) -> ConditionalSegmentationPipeline:
        names = ("modalities", "id2label", "spacing", "mask_range", "num_tta_views")
        known = {name: self.pipeline.config[name] for name in names}
        pipeline = ConditionalSegmentationPipeline(unet, self.pipeline.scheduler, **known)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
