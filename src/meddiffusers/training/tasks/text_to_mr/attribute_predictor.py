"""Training task of a `SliceAttributePredictor`.

Loss = cross-entropy and (1 − Dice) of the regions + cross-entropy of the modality + squared error of slice number and
age, in hundreds, + cross-entropy of the sex. Attributes that a row does not have are left out. Images are flipped with
their labels. Some are blurred or get the contrast, noise and bias field of a poor scanner, as generated images may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meddiffusers.data.regions import MIRRORED, REGIONS
from meddiffusers.datasets.captioned_config import CaptionedDataConfig, load_captioned_data
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE
from meddiffusers.datasets.rows import images_of
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.text_to_mr.prompt_adherence import evaluate_prompt_adherence, predict_attributes
from meddiffusers.evaluation.text_to_mr.run import targets_of
from meddiffusers.models.slice_attribute_predictor import BACKGROUND, SCALARS, SliceAttributePredictor
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.engine.task import Validation
from meddiffusers.training.losses.augmentation import simulate_low_quality
from meddiffusers.training.losses.vae import soft_dice_loss
from meddiffusers.training.tasks.unets import round_to_fp16
from meddiffusers.utils.settings import Range, check_fields, list_setting, setting

BLURRED, LOW_QUALITY = 0.5, 0.5  # fractions of the images
NUM_FIGURE, NUM_EVALUATED = 8, 768


@dataclass
class AttributePredictorConfig:
    """Settings of the predictor."""

    patch_size: int = setting(2, "Side of the square patches of pixels that the network takes as channels.")
    block_out_channels: list[int] = list_setting([32, 64, 96, 128], "Number of channels of each level.")
    layers_per_block: int = setting(1, "Number of residual blocks in each level.")
    norm_num_groups: int = setting(16, "Number of groups in the group normalisation.")
    save_in_fp16: bool = setting(False, "Round the trained weights to half precision before saving.")

    def __post_init__(self) -> None:
        check_fields(self, _RANGES)


_RANGES = dict.fromkeys(("patch_size", "layers_per_block", "norm_num_groups"), Range(1))


class AttributeSlices:
    """A map-style data set of images with all their attributes.

    An item has "image" (1, H, W) in [0, 1]; "labels" (H, W), indices into the predictor's `label_ids`; "modality", an
    index; "numbers" (3,): slice number, age and sex (1 for male), NaN if unknown.
    """

    def __init__(self, rows: datasets.Dataset, predictor: SliceAttributePredictor) -> None:
        self.rows = rows.select_columns(["image", "regions"]).with_format("numpy")
        self.table = np.zeros(max(*REGIONS, *predictor.config["label_ids"]) + 1, np.int64)
        for number, label in enumerate(predictor.config["label_ids"]):
            self.table[label] = number
        targets = targets_of(rows)
        modalities = list(predictor.config["modalities"])
        self.modalities = torch.tensor([modalities.index(facts.modality) for facts in targets])
        sexes = {"M": 1.0, "F": 0.0, None: np.nan}
        numbers = [(facts.number, facts.age, sexes[facts.sex]) for facts in targets]
        self.numbers = torch.tensor([[np.nan if n is None else float(n) for n in each] for each in numbers])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Tensor]]:
        rows = self.rows[indices]
        regions = np.stack(rows["regions"])
        labels = self.table[np.where(regions < len(self.table), regions, BACKGROUND)]
        images = np.stack(rows["image"]).astype(np.float32) / INTENSITY_SCALE
        parts = {"image": torch.from_numpy(images), "labels": torch.from_numpy(labels)}
        parts |= {"modality": self.modalities[indices], "numbers": self.numbers[indices]}
        return [{name: part[number] for name, part in parts.items()} for number in range(len(indices))]


class AttributePredictorTask:
    """Trains a `SliceAttributePredictor` for the regions and modalities of the training rows.

    Args:
        data: Settings of the data set.
        config: Settings of the predictor.
        splits: The splits "train" and "test", if they are loaded already.
    """

    def __init__(
        self,
        data: CaptionedDataConfig,
        config: AttributePredictorConfig,
        splits: Mapping[str, datasets.Dataset] | None = None,
    ) -> None:
        self.config = config
        self.splits = splits or load_captioned_data(data)
        self.dataset_name = Path(data.dataset_name).name  # local paths are never published
        targets = targets_of(self.splits["train"])
        ids = sorted({label for facts in targets for label in (*facts.volumes, *facts.mirrored().volumes)})
        count = len(config.block_out_channels)
        self.predictor = SliceAttributePredictor(
            label_ids=[BACKGROUND, *ids],
            modalities=sorted({facts.modality for facts in targets}),
            sample_size=data.resolution,
            patch_size=config.patch_size,
            network={
                "block_out_channels": config.block_out_channels,
                "down_block_types": ["DownBlock2D"] * count,
                "up_block_types": ["UpBlock2D"] * count,
                "layers_per_block": config.layers_per_block,
                "norm_num_groups": config.norm_num_groups,
            },
        )
        self.train_dataset = AttributeSlices(self.splits["train"], self.predictor)
        other_side = [BACKGROUND, *(1 + ids.index(MIRRORED[label]) for label in ids)]
        self.other_side = torch.tensor(other_side)  # index of a label → index of the one on the other side

    @property
    def modules(self) -> Mapping[str, Any]:
        """The predictor."""
        return {"predictor": self.predictor}

    def collate(self, items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Images (B, 1, H, W), labels (B, H, W), modalities (B,) and numbers (B, 3)."""
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def loss(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Tensor], random: BatchRandom
    ) -> dict[str, Tensor]:
        """The sum of the terms, and each term."""
        image, labels = self._augment(batch["image"], batch["labels"], random)
        output = modules["predictor"](image)
        logits, one_hot = output.logits.float(), F.one_hot(labels, len(self.other_side)).movedim(-1, 1).float()
        target, known = batch["numbers"].nan_to_num(), ~batch["numbers"].isnan()
        scale = target.new_tensor([*SCALARS.values()])
        squared = ((output.scalars.float() - target) / scale).square()
        sex_loss = F.binary_cross_entropy_with_logits(output.scalars[:, -1].float(), target[:, -1], reduction="none")
        terms = {
            "regions": F.cross_entropy(logits, labels),
            "dice": soft_dice_loss(logits, one_hot),
            "modality": F.cross_entropy(output.modality_logits.float(), batch["modality"]),
            "numbers": (squared * known)[:, :-1].mean(),
            "sex": (sex_loss * known[:, -1]).mean(),
        }
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        """A figure of test images, their labels and the predicted labels."""
        rows = self.splits["test"].select(range(min(NUM_FIGURE, len(self.splits["test"]))))
        predictor: Any = modules["predictor"]
        panels = {
            "image": torch.from_numpy(images_of(rows))[:, 0].numpy(),
            "labels": np.stack(rows.with_format("numpy")["regions"]),
            "predicted": predict_attributes(predictor, torch.from_numpy(images_of(rows))[:, 0].numpy()).labels,
        }
        return Validation(
            {},
            {"predicted": panel(panels, ranges={"image": (0, 1), **dict.fromkeys(("labels", "predicted"), (0, 60))})},
        )

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> Any:
        """The predictor, rounded to half precision if it is saved so."""
        if self.config.save_in_fp16:
            round_to_fp16(modules["predictor"])
        return modules["predictor"]

    def save(self, pipeline: SliceAttributePredictor, folder: Path) -> None:
        """Save the predictor for `SliceAttributePredictor.from_pretrained`."""
        pipeline.save_pretrained(folder)

    def evaluate(self, pipeline: SliceAttributePredictor, seed: int = 0) -> Report:
        """Errors of the predictions on real test images, which bound the prompt adherence that can be measured."""
        rows = self.splits["test"].select(range(min(NUM_EVALUATED, len(self.splits["test"]))))
        targets = targets_of(rows)
        predictions = predict_attributes(pipeline, torch.from_numpy(images_of(rows))[:, 0].numpy())
        dataset = f"{self.dataset_name}, test subjects"
        return evaluate_prompt_adherence(targets, predictions, rows["subject"], dataset=dataset, seed=seed)

    def _augment(self, image: Tensor, labels: Tensor, random: BatchRandom) -> tuple[Tensor, Tensor]:
        count = len(image)
        flip, blur, low_quality = (
            random.rand(count, 1, 1, 1).to(image.device) < share for share in (0.5, BLURRED, LOW_QUALITY)
        )
        image = torch.where(flip, image.flip(-1), image)
        labels = torch.where(flip[:, 0], self.other_side.to(labels.device)[labels].flip(-1), labels)
        image = torch.where(blur, F.avg_pool2d(image, 3, 1, 1, count_include_pad=False), image)
        return torch.where(low_quality, simulate_low_quality(image, random), image), labels
