"""What learning problems on slices of subjects have in common: their data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor

from meddiffusers.datasets.labelled_config import LabelledDataConfig, LabelledImages, load_labelled_data


class SliceTask:
    """Base of tasks for the engine; loads the data, unless they are given as `splits`.

    splits: "train" and "test".
    train_dataset: the former, for the engine.
    dataset_name: for a card; of a folder its name, as its place is nobody's business.
    """

    def __init__(self, data: LabelledDataConfig, splits: Mapping[str, datasets.Dataset] | None) -> None:
        self.splits = splits or load_labelled_data(data)
        self.train_dataset = LabelledImages(self.splits["train"], data.foreground_share)
        self.dataset_name = Path(data.dataset_name).name

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Images (B, C, H, W) in [0, 1] and label ids of all raters (B, R, H, W)."""
        return {name: torch.stack([item[name] for item in items]) for name in ("image", "masks")}
