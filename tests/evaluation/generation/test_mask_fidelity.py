"""Evaluation of slices generated from label maps, with a segmenter that thresholds the slices."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from meddiffusers.evaluation.generation.mask_fidelity import evaluate_masks

pytestmark = pytest.mark.usefixtures("small_features")

MODALITIES = ("t1", "flair")


class Threshold:
    """Segments label 2 where the second modality is bright, and 1 where the first is."""

    modalities = MODALITIES
    id2label = {0: "background", 1: "core", 2: "rim"}

    def __call__(self, images: torch.Tensor, **settings: Any) -> SimpleNamespace:
        assert len(settings["generator"]) == len(images)
        found = torch.where(images[:, 1] > 0.5, 2, torch.where(images[:, 0] > 0.5, 1, 0))
        return SimpleNamespace(mask=found.numpy().astype(np.uint8))


SEGMENTER: Any = Threshold()


def slices(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps (B, 16, 16) with two neighbouring squares in most, and slices that show them."""
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


@pytest.mark.slow
def test_dice_compares_with_the_conditioning_map() -> None:
    held_out, masks = slices(40, 0)
    generated = slices(40, 0)[0]
    generated[1:11, :, :, :] = 0  # ten tumours are missing
    known = slices(50, 1)[0]
    subjects = [str(number // 2) for number in range(40)]
    report = evaluate_masks(
        generated, held_out, known, masks, subjects, SEGMENTER, modalities=MODALITIES, spacing=None, dataset="squares"
    )
    assert not any("large" in metric.key for metric in report.metrics)
    for name in ("whole", "core", "rim"):
        assert report.value(f"dice_{name}") == pytest.approx(29 / 39)
        assert report.value(f"dice_{name}_held_out") == 1
        metric = report.metric(f"dice_{name}")
        assert metric.n == 39 and metric.low < 29 / 39 < metric.high
    assert report.value("kid") > 0
    assert len(report.figures) == 3


@pytest.mark.slow
def test_maps_of_less_than_a_square_centimetre_are_small() -> None:
    images, masks = slices(40, 0)
    masks[1:11, 8:] = 0  # the maps have only parts of these, the images the whole
    report = evaluate_masks(
        images, images, images, masks, ["a"] * 40, SEGMENTER, modalities=MODALITIES, spacing=1.7, dataset="squares"
    )
    assert report.value("dice_whole_large") == 1 > report.value("dice_whole")  # 36 pixels are 104 mm²


def test_a_segmenter_of_other_modalities_is_refused() -> None:
    images, masks = slices(4, 0)
    with pytest.raises(ValueError, match="The segmenter expects t1, flair; the generated slices are t2, flair"):
        evaluate_masks(
            images, images, images, masks, "abcd", SEGMENTER, modalities=("t2", "flair"), spacing=None, dataset=""
        )
