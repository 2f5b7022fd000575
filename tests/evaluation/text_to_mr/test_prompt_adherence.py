"""Faithfulness: what is read right gives perfect metrics, and each kind of error shows in its own."""

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


def cases() -> tuple[list[SliceFacts], SlicePredictions]:
    """Sixty slices of two ventricles and two thalami of many sizes, read as they are."""
    rng, labels = np.random.default_rng(0), np.zeros((60, 24, 24), np.int64)
    for one in labels:
        for place, label in enumerate((4, 43, 10, 49)):
            one[6 * place : 6 * place + rng.integers(3, 6), : rng.integers(10, 24)] = label
    numbers = {"slice": rng.integers(20, 120, 60), "age": rng.integers(20, 80, 60), "male": rng.integers(0, 2, 60)}
    asked = [
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
    read = {name: values.astype(np.float32) for name, values in numbers.items()}
    return asked, SlicePredictions(labels, [facts.modality for facts in asked], read)


def report_of(asked: list[SliceFacts], reading: SlicePredictions) -> Report:
    return evaluate_prompt_adherence(asked, reading, SUBJECTS, dataset="made up")


def test_what_is_read_right_is_perfect() -> None:
    report = report_of(*cases())
    values = {metric.name: metric.value for metric in report.metrics}
    assert all(value == pytest.approx(0, abs=0.5) for name, value in values.items() if "error" in name)
    assert all(value == pytest.approx(1, abs=1e-6) for name, value in values.items() if "error" not in name)
    assert {"modality", "volume r, lateral ventricles", "volume r, left thalamus", MEDIAN, "slice r", "sex"} <= set(
        values
    )
    assert all(metric.low <= metric.value <= metric.high for metric in report.metrics)


def test_regions_that_are_never_found_count_as_not_followed() -> None:
    asked, reading = cases()
    labels = np.where(np.isin(reading.labels, (10, 49)), 0, reading.labels)
    assert report_of(asked, replace(reading, labels=labels)).value(MEDIAN) == pytest.approx(0.5)  # two of four


def test_each_error_shows_in_its_own_figure() -> None:
    asked, reading = cases()
    perfect = report_of(asked, reading)
    fewer = reading.labels.copy()
    fewer[:, :12][fewer[:, :12] == 4] = 0
    wrong = {
        "modality": replace(reading, modalities=["t1"] * 60),
        "volume error, lateral ventricles, mm³": replace(reading, labels=fewer),
        "slice error": replace(reading, numbers={**reading.numbers, "slice": reading.numbers["slice"] + 7}),
        "sex": replace(reading, numbers={**reading.numbers, "male": 1 - reading.numbers["male"]}),
    }
    for name, other in wrong.items():
        report = report_of(asked, other)
        for metric in perfect.metrics:
            related = metric.name.split(",")[0].split(" ")[0] == name.split(",")[0].split(" ")[0]
            assert related or report.value(metric.name) == metric.value
        assert report.value(name) != perfect.value(name)
    assert report_of(asked, wrong["modality"]).value("modality") == 0.5
    assert report_of(asked, wrong["slice error"]).value("slice error") == pytest.approx(7)
    assert report_of(asked, wrong["slice error"]).value("slice r") == pytest.approx(1)
    missing = [facts.volumes[4] for facts in asked]
    expected = np.mean(missing)
    assert report_of(asked, wrong["volume error, lateral ventricles, mm³"]).value(
        "volume error, lateral ventricles, mm³"
    ) == pytest.approx(expected)


def test_what_cannot_be_compared_is_refused() -> None:
    asked, reading = cases()
    with pytest.raises(ValueError, match="Got 59 prompts of 60 images"):
        report_of(asked[1:], reading)
    with pytest.raises(ValueError, match="says the size of"):
        report_of([replace(facts, voxel=None) for facts in asked], reading)


def test_a_reading_is_in_the_words_of_prompts() -> None:
    torch.manual_seed(0)
    network = {
        "block_out_channels": [4, 8],
        "down_block_types": ["DownBlock2D"] * 2,
        "up_block_types": ["UpBlock2D"] * 2,
        "norm_num_groups": 2,
    }
    reader = SliceAttributePredictor([0, 10, 49], ["t1", "t2"], 16, network=network).eval()
    images = np.random.default_rng(0).random((40, 16, 16))
    reading = predict_attributes(reader, images)
    with torch.no_grad():
        found = reader(torch.from_numpy(images[:, None]).float())
    ids = np.array([0, 10, 49])[found.logits.argmax(dim=1).numpy()]
    assert reading.labels.shape == (40, 16, 16) and (reading.labels == ids).mean() > 0.999
    assert reading.modalities == [("t1", "t2")[number] for number in found.modality_logits.argmax(dim=1).tolist()]
    np.testing.assert_allclose(reading.numbers["age"], found.numbers[:, 1].numpy(), rtol=1e-4, atol=1e-4)
    assert ((reading.numbers["male"] > 0) & (reading.numbers["male"] < 1)).all()
