"""The attribute predictor: flipped images swap sides, unknown attributes are left out, and it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from helpers.short_run import run
from helpers.small_text_to_mr import text_rows

from meddiffusers import SliceAttributePredictor
from meddiffusers.datasets.captioned_config import CaptionedDataConfig
from meddiffusers.training import BatchRandom
from meddiffusers.training.tasks.text_to_mr.attribute_predictor import AttributePredictorConfig, AttributePredictorTask

SMALL: dict[str, Any] = {"block_out_channels": [8, 16], "norm_num_groups": 4}


def rows_with_regions(count: int, seed: int = 0) -> datasets.Dataset:
    """The left thalamus where the image is darker, the right one where it is brighter."""

    def labelled(row: dict[str, Any]) -> dict[str, Any]:
        image, regions = np.array(row["image"])[0], np.zeros((16, 16), np.int16)
        regions[4:12, 3:6], regions[4:12, 6:12] = 10, 49
        return {**row, "regions": np.where(image > 0, regions, 0)}

    rows = text_rows(count, seed)
    return rows.map(labelled, features=rows.features)


def task_of(**config: Any) -> AttributePredictorTask:
    splits = {"train": rows_with_regions(32), "test": rows_with_regions(24, seed=1)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AttributePredictorTask(
            CaptionedDataConfig(resolution=16), AttributePredictorConfig(**{**SMALL, **config}), splits
        )


def test_labels_of_a_mirrored_image_are_those_of_the_other_side() -> None:
    task = task_of()
    assert task.predictor.config["label_ids"] == [0, 10, 49] and task.predictor.config["modalities"] == ["t1", "t2"]
    batch = task.collate(task.train_dataset.__getitems__(list(range(16))))
    _, labels = task._augment(batch["image"], batch["labels"], BatchRandom(0))
    assert 0 < sum(not torch.equal(one, other) for one, other in zip(labels, batch["labels"], strict=True)) < 16
    for one, other in zip(labels, batch["labels"], strict=True):
        same, flipped = torch.equal(one, other), torch.equal(task.other_side[one].flip(-1), other)
        assert same != flipped


def test_what_a_row_does_not_say_counts_for_nothing() -> None:
    task = task_of()
    batch = task.collate(task.train_dataset.__getitems__(list(range(8))))
    assert batch["numbers"][:, 0].isnan().all()  # no slice is said
    losses = task.loss(task.modules, batch, BatchRandom(0))
    assert losses["loss"].isfinite()
    other = {**batch, "numbers": torch.full_like(batch["numbers"], torch.nan)}
    assert task.loss(task.modules, other, BatchRandom(0))["numbers"] == 0
    assert task.loss(task.modules, other, BatchRandom(0))["sex"] == 0


@pytest.mark.slow
def test_a_short_training_reads_regions_and_modality(tmp_path: Path) -> None:
    task = task_of(save_in_fp16=True)
    run(task, tmp_path, max_train_steps=120, train_batch_size=8, learning_rate=1e-2, validation_steps=120)
    reader = SliceAttributePredictor.from_pretrained(tmp_path).eval()
    rows = task.splits["test"]
    images = torch.from_numpy(np.stack(rows.with_format("numpy")["image"]).astype(np.float32)) / 10_000
    with torch.no_grad():
        read = reader(images)
    assert (read.modality_logits.argmax(dim=1) == torch.arange(24) % 2).float().mean() > 0.9
    truth = torch.from_numpy(np.stack(rows.with_format("numpy")["regions"]).astype(np.int64))
    found = torch.tensor([0, 10, 49])[read.logits.argmax(dim=1)]
    assert (found == truth).float().mean() > 0.97


def test_the_report_has_the_errors_of_the_predictor() -> None:
    task = task_of()
    with pytest.raises(ValueError, match="with the voxel size"):  # these rows do not
        task.evaluate(task.predictor)
