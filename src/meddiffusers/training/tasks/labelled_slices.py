"""The data of training tasks on labelled slices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor

from meddiffusers.datasets.labelled_config import LabelledDataConfig, LabelledImages, load_labelled_data


class LabelledSliceTask:
    """Base of tasks that train on labelled slices.

    Args:
        data: Settings of the data set.
        splits: The splits "train" and "test", if they are loaded already.

    Attributes:
        splits: Both splits.
        train_dataset: The training samples, for the engine.
        dataset_name: Name of the data set, for the card; of a folder only its name, since local paths are never
            published.
    """

    def __init__(self, data: LabelledDataConfig, splits: Mapping[str, datasets.Dataset] | None) -> None:
        self.splits = splits or load_labelled_data(data)
        self.train_dataset = LabelledImages(self.splits["train"], data.foreground_share)
        self.dataset_name = Path(data.dataset_name).name

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Images (B, C, H, W) in [0, 1], and label maps of all raters (B, R, H, W)."""
        return {name: torch.stack([item[name] for item in items]) for name in ("image", "masks")}

    def test_rows(self, count: int) -> datasets.Dataset:
        """The first test rows, at most this many."""
        return self.splits["test"].select(range(min(count, len(self.splits["test"]))))
