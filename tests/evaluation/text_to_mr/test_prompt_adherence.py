"""Prompt adherence: correct predictions give perfect metrics, and each kind of error shows in its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from meddiffusers import SliceAttributePredictor
from meddiffusers.data.prompts import SliceFacts
from meddiffusers.data.regions import region_volumes
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.text_to_mr.prompt_adherence import (
    MEDIAN,
    SlicePredictions,
    evaluate_prompt_adherence,
    predict_attributes,
)

VOXEL = (2.0, 2.0, 1.0)
SUBJECTS = [str(number // 2) for number in range(60)]


def example() -> tuple[list[SliceFacts], SlicePredictions]:
    """Sixty slices of two ventricles and two thalami of many sizes, predicted correctly."""
    rng, labels = np.random.default_rng(0), np.zeros((60, 24, 24), np.int64)
    for one in labels:
        for place, label in enumerate((4, 43, 10, 49)):
            one[6 * place : 6 * place + rng.integers(3, 6), : rng.integers(10, 24)] = label
    numbers = {"slice": rng.integers(20, 120, 60), "age": rng.integers(20, 80, 60), "male": rng.integers(0, 2, 60)}
    targets = [
        SliceFacts(
            ("t1", "t2")[number % 2],
            "M" if numbers["male"][number] else "F",
            int(numbers["age"][number]),
            number=int(numbers["slice"][number]),
            voxel=VOXEL,
            volumes={label: round(mm3) for label, mm3 in region_volumes(labels[number], 4.0).items()},
        )
        for number in range(60)
    ]
    predicted = {name: values.astype(np.float32) for name, values in numbers.items()}
    return targets, SlicePredictions(labels, [facts.modality for facts in targets], predicted)


def report_of(targets: list[SliceFacts], predictions: SlicePredictions) -> Report:
    return evaluate_prompt_adherence(targets, predictions, SUBJECTS, dataset="made up")


@pytest.mark.slow
def test_correct_predictions_are_perfect() -> None:
    report = report_of(*example())
    assert all(value == pytest.approx(0, abs=0.5) for key, value in report.values.items() if "mae" in key)
    assert all(value == pytest.approx(1, abs=1e-6) for key, value in report.values.items() if "mae" not in key)
    assert {"modality_accuracy", "volume_r_lateral_ventricles", "volume_r_left_thalamus"} <= set(report.values)
    assert {MEDIAN, "slice_r", "age_mae", "sex_accuracy"} <= set(report.values)
    assert all(metric.low <= metric.value <= metric.high for metric in report.metrics)


@pytest.mark.slow
def test_regions_that_are_never_predicted_have_an_r_of_0_in_the_median() -> None:
    targets, predictions = example()
    labels = np.where(np.isin(predictions.labels, (10, 49)), 0, predictions.labels)
    report = report_of(targets, replace(predictions, labels=labels))
    assert report.value(MEDIAN) == pytest.approx(0.5)  # two of four


@pytest.mark.slow
def test_each_error_shows_in_its_own_metric() -> None:
    targets, predictions = example()
    perfect = report_of(targets, predictions)
    fewer = predictions.labels.copy()
    fewer[:, :12][fewer[:, :12] == 4] = 0
    numbers = predictions.numbers
    wrong = {
        "modality_accuracy": replace(predictions, modalities=["t1"] * 60),
        "volume_mae_lateral_ventricles": replace(predictions, labels=fewer),
        "slice_mae": replace(predictions, numbers={**numbers, "slice": numbers["slice"] + 7}),
        "sex_accuracy": replace(predictions, numbers={**numbers, "male": 1 - numbers["male"]}),
    }
    reports = {key: report_of(targets, other) for key, other in wrong.items()}
    for key, report in reports.items():
        for metric in perfect.metrics:
            related = metric.key.split("_")[0] == key.split("_")[0]
            assert related or report.value(metric.key) == metric.value
        assert report.value(key) != perfect.value(key)
    assert reports["modality_accuracy"].value("modality_accuracy") == 0.5
    assert reports["slice_mae"].value("slice_mae") == pytest.approx(7)
    assert reports["slice_mae"].value("slice_r") == pytest.approx(1)
    expected = np.mean([facts.volumes[4] for facts in targets])
    report = reports["volume_mae_lateral_ventricles"]
    assert report.value("volume_mae_lateral_ventricles") == pytest.approx(expected)


def test_what_cannot_be_compared_is_refused() -> None:
    targets, predictions = example()
    with pytest.raises(ValueError, match="Got 59 prompts for 60 images"):
        report_of(targets[1:], predictions)
    with pytest.raises(ValueError, match="with the voxel size"):
        report_of([replace(facts, voxel=None) for facts in targets], predictions)


def test_predictions_use_the_names_of_prompts() -> None:
    torch.manual_seed(0)
    network = {
        "block_out_channels": [4, 8],
        "down_block_types": ["DownBlock2D"] * 2,
        "up_block_types": ["UpBlock2D"] * 2,
        "norm_num_groups": 2,
    }
    predictor = SliceAttributePredictor([0, 10, 49], ["t1", "t2"], 16, network=network).eval()
    images = np.random.default_rng(0).random((40, 16, 16))
    predictions = predict_attributes(predictor, images)
    with torch.no_grad():
        output = predictor(torch.from_numpy(images[:, None]).float())
    ids = np.array([0, 10, 49])[output.logits.argmax(dim=1).numpy()]
    assert predictions.labels.shape == (40, 16, 16) and (predictions.labels == ids).mean() > 0.999
    assert predictions.modalities == [("t1", "t2")[number] for number in output.modality_logits.argmax(dim=1).tolist()]
    np.testing.assert_allclose(predictions.numbers["age"], output.scalars[:, 1].numpy(), rtol=1e-4, atol=1e-4)
    assert ((predictions.numbers["male"] > 0) & (predictions.numbers["male"] < 1)).all()
