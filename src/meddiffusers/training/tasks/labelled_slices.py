"""The data of training tasks on labelled slices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
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

    def require_both_labels(self) -> None:
        """Raise ValueError unless some training images are healthy and some diseased."""
        seen = set[bool]()
        for batch in self.splits["train"].select_columns(["masks"]).with_format("numpy").iter(64):
            seen |= {bool(np.any(masks)) for masks in batch["masks"]}
            if len(seen) == 2:
                return
        raise ValueError(
            f"All training images of {self.dataset_name} {'have' if True in seen else 'are without'} foreground; "
            "expected some with and some without, for the labels diseased and healthy. Add images of the other."
        )
