"""The report of slices that are drawn of label maps, with a segmenter that reads what the slices plainly show."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from meddiffusers.evaluation.generation.mask_fidelity import evaluate_masks

MODALITIES = ("t1", "flair")


class Threshold:
    """Finds the label 2 where the second modality is bright, and 1 where the first is."""

    modalities = MODALITIES
    id2label = {0: "background", 1: "core", 2: "rim"}

    def __call__(self, images: torch.Tensor, **settings: Any) -> SimpleNamespace:
        assert len(settings["generator"]) == len(images)
        found = torch.where(images[:, 1] > 0.5, 2, torch.where(images[:, 0] > 0.5, 1, 0))
        return SimpleNamespace(mask=found.numpy().astype(np.uint8))


def slices(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps (N, 16, 16) with two neighbouring squares in most, and slices that show them."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, 16, 16), np.uint8)
    for number in range(1, count):  # the first is healthy
        top, left = rng.integers(1, 8, 2)
        masks[number, top : top + 6, left : left + 3] = 1
        masks[number, top : top + 6, left + 3 : left + 6] = 2
    images = 0.2 * rng.random((count, 2, 16, 16), np.float32)
    images[:, 0] += 0.7 * (masks == 1)
    images[:, 1] += 0.7 * (masks == 2)
    return images, masks


def test_dice_is_of_the_map_that_was_asked_for() -> None:
    held_out, masks = slices(40, 0)
    drawn = slices(40, 0)[0]
    drawn[1:11, :, :, :] = 0  # ten tumours are not drawn
    known = slices(50, 1)[0]
    subjects = [str(number // 2) for number in range(40)]
    report = evaluate_masks(
        drawn, held_out, known, masks, subjects, Threshold(), modalities=MODALITIES, spacing=None, dataset="squares"
    )
    assert not any("cm²" in metric.name for metric in report.metrics)
    for name in ("whole", "core", "rim"):
        assert report.value(f"Dice, {name}") == pytest.approx(29 / 39)
        assert report.value(f"Dice, {name}, held-out slices") == 1
        (metric,) = (each for each in report.metrics if each.name == f"Dice, {name}")
        assert metric.n == 39 and metric.low < 29 / 39 < metric.high
    assert report.value("kernel distance") > 0
    assert len(report.figures) == 3


def test_maps_of_less_than_a_square_centimetre_are_told_apart() -> None:
    images, masks = slices(40, 0)
    masks[1:11, 8:] = 0  # parts of these are asked for, and wholes drawn
    given = evaluate_masks(
        images, images, images, masks, ["a"] * 40, Threshold(), modalities=MODALITIES, spacing=1.7, dataset="squares"
    )
    assert given.value("Dice, whole, of 1 cm² or more") == 1 > given.value("Dice, whole")  # 36 pixels are 104 mm²


def test_a_segmenter_of_other_modalities_is_refused() -> None:
    images, masks = slices(4, 0)
    with pytest.raises(ValueError, match="The segmenter sees t1, flair; the drawn slices are t2, flair"):
        evaluate_masks(
            images, images, images, masks, "abcd", Threshold(), modalities=("t2", "flair"), spacing=None, dataset=""
        )
