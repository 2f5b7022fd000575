"""The learning problem of a `SliceAttributePredictor`, for the engine.

Loss = cross-entropy and (1 − Dice) of the regions + cross-entropy of the modality + squared error of slice and age, in
hundreds, + cross-entropy of the sex. What a row does not say counts for nothing. Images are mirrored with their
labels, and blurred, noised and shaded, as generated ones and those of poorer scanners may be.
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
from meddiffusers.models.slice_attribute_predictor import BACKGROUND, NUMBERS, SliceAttributePredictor
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.engine.task import Validation
from meddiffusers.training.losses.augmentation import simulate_low_quality
from meddiffusers.training.losses.vae import soft_dice_loss
from meddiffusers.training.tasks.unets import round_to_half
from meddiffusers.utils.settings import Range, check_fields, list_setting, setting

BLUR, POOR = 0.5, 0.5  # parts of the images that are blurred, and that look like a poorer scanner's
SHOWN, EVALUATED = 8, 768


@dataclass
class AttributePredictorConfig:
    """Which reader, and how it learns."""

    patch_size: int = setting(2, "Pixels of each side that the network sees as one.")
    block_out_channels: list[int] = list_setting([32, 64, 96, 128], "Channels of the levels.")
    layers_per_block: int = setting(1, "Residual blocks of a level.")
    norm_num_groups: int = setting(16, "Groups of the normalisation.")
    save_in_fp16: bool = setting(False, "Round the trained weights to what half precision stores.")

    def __post_init__(self) -> None:
        check_fields(self, _RANGES)


_RANGES = dict.fromkeys(("patch_size", "layers_per_block", "norm_num_groups"), Range(1))


class LabelledImages:
    """A map-style data set: image (1, H, W) in [0, 1], label numbers (H, W), modality; numbers, NaN if unknown."""

    def __init__(self, rows: datasets.Dataset, reader: SliceAttributePredictor) -> None:
        self.rows = rows.select_columns(["image", "regions"]).with_format("numpy")
        self.table = np.zeros(max(*REGIONS, *reader.config["label_ids"]) + 1, np.int64)
        for number, label in enumerate(reader.config["label_ids"]):
            self.table[label] = number
        said = targets_of(rows)
        modalities = list(reader.config["modalities"])
        self.modalities = torch.tensor([modalities.index(facts.modality) for facts in said])
        sexes = {"M": 1.0, "F": 0.0, None: np.nan}
        numbers = [(facts.number, facts.age, sexes[facts.sex]) for facts in said]
        self.numbers = torch.tensor([[np.nan if n is None else float(n) for n in each] for each in numbers])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Tensor]]:
        read = self.rows[indices]
        regions = np.stack(read["regions"])
        labels = self.table[np.where(regions < len(self.table), regions, BACKGROUND)]
        images = np.stack(read["image"]).astype(np.float32) / INTENSITY_SCALE
        parts = {"image": torch.from_numpy(images), "labels": torch.from_numpy(labels)}
        parts |= {"modality": self.modalities[indices], "numbers": self.numbers[indices]}
        return [{name: part[number] for name, part in parts.items()} for number in range(len(indices))]


class AttributePredictorTask:
    """Builds the reader and its data, unless these are given as `splits`. Labels are those of the training rows."""

    def __init__(
        self,
        data: CaptionedDataConfig,
        config: AttributePredictorConfig,
        splits: Mapping[str, datasets.Dataset] | None = None,
    ) -> None:
        self.config = config
        self.splits = splits or load_captioned_data(data)
        self.dataset_name = Path(data.dataset_name).name
        said = targets_of(self.splits["train"])
        ids = sorted({label for facts in said for label in (*facts.volumes, *facts.mirrored().volumes)})
        count = len(config.block_out_channels)
        self.reader = SliceAttributePredictor(
            label_ids=[BACKGROUND, *ids],
            modalities=sorted({facts.modality for facts in said}),
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
        self.train_dataset = LabelledImages(self.splits["train"], self.reader)
        mirrored = [BACKGROUND, *(1 + ids.index(MIRRORED[label]) for label in ids)]
        self.mirrored = torch.tensor(mirrored)  # label number → that of the other side

    @property
    def modules(self) -> Mapping[str, Any]:
        """The one network."""
        return {"reader": self.reader}

    def collate(self, items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """All that a image has, stacked."""
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def loss(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Tensor], random: BatchRandom
    ) -> dict[str, Tensor]:
        """The terms above."""
        image, labels = self._changed(batch["image"], batch["labels"], random)
        found = modules["reader"](image)
        logits, one_hot = found.logits.float(), F.one_hot(labels, len(self.mirrored)).movedim(-1, 1).float()
        wanted, known = batch["numbers"].nan_to_num(), ~batch["numbers"].isnan()
        scale = wanted.new_tensor([*NUMBERS.values()])
        squared = ((found.numbers.float() - wanted) / scale).square()
        told = F.binary_cross_entropy_with_logits(found.numbers[:, -1].float(), wanted[:, -1], reduction="none")
        terms = {
            "regions": F.cross_entropy(logits, labels),
            "dice": soft_dice_loss(logits, one_hot),
            "modality": F.cross_entropy(found.modality_logits.float(), batch["modality"]),
            "numbers": (squared * known)[:, :-1].mean(),
            "sex": (told * known[:, -1]).mean(),
        }
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        """Test images, and their labels as they are and as they are read."""
        rows = self.splits["test"].select(range(min(SHOWN, len(self.splits["test"]))))
        reader: Any = modules["reader"]
        shown = {
            "image": torch.from_numpy(images_of(rows))[:, 0].numpy(),
            "labels": np.stack(rows.with_format("numpy")["regions"]),
            "read": predict_attributes(reader, torch.from_numpy(images_of(rows))[:, 0].numpy()).labels,
        }
        return Validation(
            {}, {"read": panel(shown, ranges={"image": (0, 1), **dict.fromkeys(("labels", "read"), (0, 60))})}
        )

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> Any:
        """The reader alone."""
        if self.config.save_in_fp16:
            round_to_half(modules["reader"])
        return modules["reader"]

    def save(self, pipeline: SliceAttributePredictor, folder: Path) -> None:
        """As `SliceAttributePredictor.from_pretrained` reads it."""
        pipeline.save_pretrained(folder)

    def evaluate(self, pipeline: SliceAttributePredictor, seed: int = 0) -> Report:
        """What it reads of real test images, against what they show: the best that a generated image can reach."""
        rows = self.splits["test"].select(range(min(EVALUATED, len(self.splits["test"]))))
        asked = targets_of(rows)
        reading = predict_attributes(pipeline, torch.from_numpy(images_of(rows))[:, 0].numpy())
        dataset = f"{self.dataset_name}, test subjects"
        return evaluate_prompt_adherence(asked, reading, rows["subject"], dataset=dataset, seed=seed)

    def _changed(self, image: Tensor, labels: Tensor, random: BatchRandom) -> tuple[Tensor, Tensor]:
        count = len(image)
        turned, blurred, poor = (random.rand(count, 1, 1, 1).to(image.device) < part for part in (0.5, BLUR, POOR))
        image = torch.where(turned, image.flip(-1), image)
        labels = torch.where(turned[:, 0], self.mirrored.to(labels.device)[labels].flip(-1), labels)
        image = torch.where(blurred, F.avg_pool2d(image, 3, 1, 1, count_include_pad=False), image)
        return torch.where(poor, simulate_low_quality(image, random), image), labels
