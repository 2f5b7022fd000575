"""Evaluation of text-to-MR: a model whose images follow the prompts has perfect metrics."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small_text_to_mr import small_text_to_mr, text_rows

from meddiffusers import SliceAttributePredictor
from meddiffusers.data.prompts import read_prompt
from meddiffusers.evaluation.text_to_mr.prompt_adherence import predict_attributes
from meddiffusers.evaluation.text_to_mr.report import anatomy_dice, evaluate_text_to_mr
from meddiffusers.evaluation.text_to_mr.run import (
    generate_from_prompts,
    in_modality,
    prompts_of,
    real_images,
    targets_of,
)

pytestmark = pytest.mark.usefixtures("small_features")

COUNT = 48


class FakePipeline:
    """Generates bright images for T1 and dark ones for T2, slightly brighter with the age in the prompt."""

    max_tokens, tokenizer = 512, staticmethod(lambda text, verbose: SimpleNamespace(input_ids=[0]))

    def __init__(self) -> None:
        self.calls: list[tuple[int, dict[str, Any]]] = []

    def __call__(self, texts: list[str], generator: list[torch.Generator], output_type: str, **settings: Any) -> Any:
        self.calls.append((len(texts), settings))
        images = torch.zeros(len(texts), 1, 16, 16)
        for image, text, one in zip(images, texts, generator, strict=True):
            facts = read_prompt(text)
            image[0, 4:12, 3:12] = (0.7 if facts.modality == "t1" else 0.3) + (facts.age or 0) / 1000
            image += 0.02 * torch.rand(image.shape, generator=one)
        return SimpleNamespace(images=images)


class BrightnessPredictor(SliceAttributePredictor):
    """Predicts the modality from the brightness, and bright pixels as left and right white matter."""

    def forward(self, sample: torch.Tensor, return_dict: bool = True) -> Any:
        bright = sample[:, 0] > 0.15
        side = torch.arange(16) < 7
        labels = torch.where(bright, torch.where(side, 1, 2), 0)
        modality = (sample.amax(dim=(1, 2, 3)) < 0.5).long()
        one_hot = torch.nn.functional.one_hot
        return SimpleNamespace(
            logits=one_hot(labels, 3).movedim(-1, 1).float(),
            modality_logits=one_hot(modality, 2).float(),
            scalars=torch.zeros(len(sample), 3),
        )


def predictor() -> SliceAttributePredictor:
    network = {"block_out_channels": [4], "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"]}
    return BrightnessPredictor([0, 2, 41], ["t1", "t2"], 16, network={**network, "norm_num_groups": 2}).eval()


def fake_pipeline(kind: type[FakePipeline] = FakePipeline) -> Any:
    return kind()


def rows_of(count: int, seed: int) -> Any:
    voxel = {"voxel": [2.0, 2.0, 1.0], "volumes": [{"label": 2, "mm3": 96}, {"label": 41, "mm3": 120}]}
    rows = text_rows(count, seed)
    return rows.map(lambda row: {**row, "facts": {**row["facts"], **voxel}}, features=rows.features)


@pytest.mark.slow
def test_a_perfect_model_has_perfect_metrics() -> None:
    pipeline, rows = fake_pipeline(), rows_of(COUNT, 1)
    report = evaluate_text_to_mr(pipeline, predictor(), rows, rows_of(24, 2), dataset="made up", num_inference_steps=7)
    assert all(settings == {"num_inference_steps": 7} for _, settings in pipeline.calls)
    assert report.value("modality_accuracy") == report.value("modality_accuracy_real") == 1
    assert report.value("swapped_modality_accuracy") == report.value("swapped_dice") == 1
    assert 0 < report.value("rms_same_prompt") < 0.02 < report.value("rms_held_out")
    assert {"kid", "nn_distance_generated"} <= set(report.values)
    assert len(report.figures) == 4


@pytest.mark.slow
def test_a_model_that_ignores_the_modality_is_detected() -> None:
    class IgnoresModality(FakePipeline):
        def __call__(self, texts: list[str], **arguments: Any) -> Any:
            return super().__call__([text.replace("T2", "T1") for text in texts], **arguments)

    report = evaluate_text_to_mr(
        fake_pipeline(IgnoresModality), predictor(), rows_of(COUNT, 1), rows_of(24, 2), dataset="made up"
    )
    assert report.value("modality_accuracy") == 0.5 and report.value("modality_accuracy_real") == 1
    assert report.value("swapped_modality_accuracy") < 0.6 and report.value("swapped_dice") == 1


@pytest.mark.slow
def test_real_images_of_one_slice_bound_the_dice_of_a_swap() -> None:
    rows = rows_of(COUNT, 1)
    pairs = rows.map(
        lambda row, index: {"subject": str(index // 2), "facts": {**row["facts"], "number": 7}},
        with_indices=True,
        features=rows.features,
    )
    report = evaluate_text_to_mr(fake_pipeline(), predictor(), pairs, rows_of(24, 2), dataset="made up")
    bound = report.metric("swapped_dice_real")
    labels = predict_attributes(predictor(), real_images(pairs)).labels
    assert bound.n == COUNT // 2 and bound.value == pytest.approx(anatomy_dice(labels[::2], labels[1::2]).mean())


def test_dice_counts_parts_that_either_map_has() -> None:
    one = np.zeros((3, 4, 4), int)
    one[:, :2] = 2
    other = one.copy()
    other[1, 0] = 0  # a half is lost: 2·4 / (8 + 4)
    one[2], other[2] = 0, 0
    np.testing.assert_allclose(anatomy_dice(one, other), [1, 2 / 3, np.nan])
    one[0, 3], other[0, 3] = 4, 43  # both lateral ventricles
    other[0, 2] = 3  # grey matter that the first does not have
    np.testing.assert_allclose(anatomy_dice(one, other)[0], (1 + 1 + 0) / 3)


@pytest.mark.slow
def test_images_do_not_depend_on_those_beside_them() -> None:
    pipeline, rows = small_text_to_mr(positions=512), text_rows(18)
    targets = targets_of(rows)
    assert [facts.modality for facts in in_modality(targets, "t2")] == ["t2"] * 18
    texts = prompts_of(pipeline, targets)
    assert [read_prompt(text) for text in texts] == targets
    whole = generate_from_prompts(pipeline, texts, seed=3, num_inference_steps=2)
    part = generate_from_prompts(pipeline, texts[:2], seed=3, num_inference_steps=2)
    assert whole.shape == (18, 16, 16)
    np.testing.assert_allclose(part, whole[:2], atol=1e-4)
    assert not np.allclose(generate_from_prompts(pipeline, texts[:2], seed=4, num_inference_steps=2), part, atol=1e-3)
    assert real_images(rows).shape == (18, 16, 16) and real_images(rows).max() == pytest.approx(0.75, abs=0.06)
