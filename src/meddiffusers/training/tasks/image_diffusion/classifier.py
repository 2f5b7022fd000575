"""Training task of a classifier of noisy images, which guides a diffusion model to healthy images.

The classifier predicts whether an image that is noised to a random time has any foreground (Wolleb et al., MICCAI
2022). The result is an `AnomalyDetectionPipeline` with the classifier and the diffusion model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import datasets
import torch.nn.functional as F
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn

from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.evaluation.anomaly.report import evaluate_anomaly, slices_panel
from meddiffusers.evaluation.anomaly.result import run_anomaly
from meddiffusers.evaluation.report import Report
from meddiffusers.hub.load import load
from meddiffusers.models.noisy_classifier import NoisyClassifier
from meddiffusers.pipelines.anomaly_detection_pipeline import AnomalyDetectionPipeline
from meddiffusers.pipelines.image_diffusion_pipeline import ImageDiffusionPipeline
from meddiffusers.schedulers.reversible_ddim_scheduler import ReversibleDDIMScheduler
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.engine.task import Validation
from meddiffusers.training.losses.augmentation import drop_modalities, random_flip
from meddiffusers.training.losses.diffusion import stratified_timesteps
from meddiffusers.training.tasks.image_diffusion.model import DISEASED, HEALTHY
from meddiffusers.training.tasks.labelled_slices import LabelledSliceTask
from meddiffusers.training.tasks.unets import check_same_data, round_to_fp16
from meddiffusers.utils.settings import Range, check_fields, list_setting, setting

NUM_VALIDATED, NUM_EVALUATED = 32, 256  # test images of a validation, and for the metrics at the end


@dataclass
class ClassifierConfig:
    """Settings of the classifier and of its training."""

    pretrained_model_name_or_path: str = setting("", "Repository or folder of the diffusion model to guide.")
    revision: str | None = setting(None, "Branch, tag or commit of that repository.")
    block_out_channels: list[int] = list_setting([32, 64, 96, 128], "Number of channels of each level.")
    layers_per_block: int = setting(1, "Number of residual blocks in each level.")
    attention_levels: list[int] = list_setting([], "Levels with attention, counted from 0.")
    attention_head_dim: int | None = setting(None, "Channels of an attention head; by default there is one head.")
    norm_num_groups: int = setting(16, "Number of groups in the group normalisation.")
    pooling: Literal["attention", "mean"] = setting(
        "mean", "Pooling before the last layer; attention is that of the paper, for images of one size."
    )
    max_time: float = setting(
        1.0,
        "Latest time of the training images, as a fraction of the noise schedule; at least the noise strength of the "
        "later detection.",
    )
    modality_dropout: float = setting(0.0, "Fraction of the images from which random modalities are dropped.")
    save_in_fp16: bool = setting(False, "Round the trained weights to half precision before saving.")

    def __post_init__(self) -> None:
        check_fields(self, _RANGES)


_COUNT = Range(1)
_RANGES = {
    "layers_per_block": _COUNT,
    "attention_head_dim": _COUNT,
    "norm_num_groups": _COUNT,
    "max_time": Range(0, 1, open_low=True),
    "modality_dropout": Range(0, 1),
}


class ClassifierTask(LabelledSliceTask):
    """Trains a `NoisyClassifier`; the diffusion model is not changed.

    Args:
        data: Settings of the data set.
        config: Settings of the classifier.
        splits: The splits "train" and "test", if they are loaded already.

    Raises:
        ValueError: There is no diffusion model, or it is of another kind, or for other modalities or pixels than the
            data; all training images have the same label.
    """

    def __init__(
        self,
        data: LabelledDataConfig,
        config: ClassifierConfig,
        splits: Mapping[str, datasets.Dataset] | None = None,
    ) -> None:
        self.config = config
        self.diffusion = _diffusion_model(data, config)
        self.classifier = NoisyClassifier(
            in_channels=len(data.modalities),
            id2label={0: HEALTHY, 1: DISEASED},
            sample_size=data.resolution,
            block_out_channels=config.block_out_channels,
            layers_per_block=config.layers_per_block,
            attention_levels=config.attention_levels,
            attention_head_dim=config.attention_head_dim,
            norm_num_groups=config.norm_num_groups,
            pooling=config.pooling,
        )
        self.noise_scheduler = DDPMScheduler.from_config(self.diffusion.scheduler.config)
        super().__init__(data, splits)
        self.require_both_labels()

    @property
    def modules(self) -> Mapping[str, ModelMixin]:
        """The classifier, which alone is trained."""
        return {"classifier": self.classifier}

    def loss(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Tensor], random: BatchRandom
    ) -> dict[str, Tensor]:
        """Cross-entropy of the label given the noisy image, at uniform times up to `max_time`."""
        image, masks = random_flip(batch["image"], batch["masks"], random)
        image = drop_modalities(image, self.config.modality_dropout, random)
        low, high = self.diffusion.image_range
        x0 = low + (high - low) * image
        times = self.config.max_time * stratified_timesteps(len(x0), 1, random)
        timesteps = (times * self.noise_scheduler.config["num_train_timesteps"]).long()
        x_t = self.noise_scheduler.add_noise(x0, random.randn_like(x0), timesteps)
        logits, labels = modules["classifier"](x_t, timesteps).logits.float(), masks.flatten(1).any(dim=1).long()
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        return {"loss": F.cross_entropy(logits, labels), "accuracy": accuracy}

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        """Dice of the guided anomaly maps of test images, and a figure of them."""
        rows = self.test_rows(NUM_VALIDATED)
        pipeline = self._with_classifier(modules["classifier"])
        result = run_anomaly(pipeline, rows, method="classifier", map_from="residual", num_inference_steps=20)
        dice = evaluate_anomaly(result, dataset=self.dataset_name).value("best_dice_pixels")
        return Validation({"best_dice": dice}, {"anomalies": slices_panel(result)})

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> AnomalyDetectionPipeline:
        """The pipeline around the trained classifier, whose weights are rounded if they are to be stored so."""
        if self.config.save_in_fp16:
            round_to_fp16(modules["classifier"])
        return self._with_classifier(modules["classifier"])

    def save(self, pipeline: AnomalyDetectionPipeline, folder: Path) -> None:
        """Save the whole pipeline, including the diffusion model."""
        pipeline.save_pretrained(folder)

    def evaluate(self, pipeline: AnomalyDetectionPipeline, seed: int = 0) -> Report:
        """Metrics and figures of the pipeline on the test images."""
        rows = self.test_rows(NUM_EVALUATED)
        result = run_anomaly(pipeline, rows, seed=seed, num_inference_steps=20)
        return evaluate_anomaly(result, dataset=f"{self.dataset_name}, test subjects", seed=seed)

    def _with_classifier(self, classifier: nn.Module) -> AnomalyDetectionPipeline:
        known = {name: self.diffusion.config[name] for name in ("modalities", "spacing", "image_range")}
        scheduler = ReversibleDDIMScheduler.from_config(self.diffusion.scheduler.config)
        pipeline = AnomalyDetectionPipeline(self.diffusion.unet, scheduler, classifier, **known)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def _diffusion_model(data: LabelledDataConfig, config: ClassifierConfig) -> ImageDiffusionPipeline:
    name = config.pretrained_model_name_or_path
    if not name:
        raise ValueError(
            "pretrained_model_name_or_path is not set; a classifier guides a diffusion model: train one with "
            "training/train_image_diffusion.py, and give --pretrained_model_name_or_path REPOSITORY."
        )
    pipeline = load(name, revision=config.revision)
    if not isinstance(pipeline, ImageDiffusionPipeline):
        raise ValueError(f"{name} holds a {type(pipeline).__name__}; expected an ImageDiffusionPipeline.")
    check_same_data(name, {"modalities": list(pipeline.modalities), "spacing": pipeline.config["spacing"]}, data)
    return pipeline
