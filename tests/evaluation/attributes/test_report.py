from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.bar_pipeline import HEIGHT, MEASURE, WIDTH, bar_data, bar_pipeline, width_and_height

from meddiffusers.datasets.attribute_measures import Measure
from meddiffusers.evaluation.attributes.report import evaluate_attributes
from meddiffusers.evaluation.report import Report

TRUE = {"width": WIDTH, "height": HEIGHT}


def evaluated(measure: Measure | None = MEASURE, count: int = 60, **config: Any) -> Report:
    images, shape = bar_data(count)
    pipeline = bar_pipeline(**config)
    return evaluate_attributes(pipeline, images, shape[:, : len(pipeline.attributes)], measure, dataset="bars")


def keys(report: Report) -> list[str]:
    return [metric.key for metric in report.metrics]


@pytest.fixture(scope="module")
def perfect() -> Report:
    return evaluated(calibration=TRUE)


@pytest.mark.slow
def test_a_perfect_model_has_perfect_metrics(perfect: Report) -> None:
    assert perfect.value("pixel_agreement") == pytest.approx(1, abs=1e-4)
    for name in ("interpretability", "scc", "traversal_spearman_width", "traversal_spearman_height"):
        assert perfect.value(name) == pytest.approx(1, abs=1e-6)
    for name in ("width", "height"):
        assert perfect.value(f"edit_mae_{name}") == pytest.approx(0, abs=1e-4)


def test_the_spread_of_a_dimension_is_that_of_the_attribute_over_the_slope(perfect: Report) -> None:
    spread = np.linspace(6, 18, 60).std()
    assert perfect.value("latent_sigma_width") == pytest.approx(spread / 2, abs=1e-4)
    assert perfect.value("latent_sigma_height") == pytest.approx(spread / 1.5, abs=1e-4)


@pytest.mark.slow
def test_what_three_images_are_too_few_for_is_left_out_and_told() -> None:
    report = evaluated(calibration=TRUE, count=3)
    assert keys(report) == ["pixel_agreement", "latent_sigma_width", "latent_sigma_height"]
    assert report.details["left out"] == "disentanglement, traversals and edits: 3 images, fewer than 4"
    four = evaluated(calibration=TRUE, count=4)
    assert "scc" in keys(four)
    assert all(np.isfinite(metric.value) for metric in four.metrics)


def test_nothing_leaks(perfect: Report) -> None:
    np.testing.assert_allclose(perfect.details["leakage"], [[4, 0], [0, 4]], atol=1e-3)  # −2σ to 2σ


@pytest.mark.slow
def test_an_edit_error_is_that_of_the_calibration() -> None:
    shifted = {**WIDTH, "values": [value + 0.5 for value in WIDTH["values"]]}
    report = evaluated(calibration={"width": shifted, "height": HEIGHT})
    assert report.value("edit_mae_width") == pytest.approx(0.5, abs=1e-4)
    assert report.value("edit_mae_height") == pytest.approx(0, abs=1e-4)


def test_edits_stay_inside_the_calibrated_range() -> None:
    narrow = {"unit": "px", "values": [11.0, 13.0], "latents": [-0.5, 0.5]}
    assert evaluated(calibration={"width": narrow}).value("edit_mae_width") == pytest.approx(0, abs=1e-4)


def test_agreement_counts_the_pixels_that_are_lost() -> None:
    images, shape = bar_data()
    images[:, :, -1, -1] = 1  # a speck that the model cannot generate
    report = evaluate_attributes(bar_pipeline(), images, shape, None, dataset="bars")
    assert report.value("pixel_agreement") == pytest.approx(1 - 1 / 784, abs=1e-4)


@pytest.mark.slow
def test_agreement_of_label_maps() -> None:
    labels, shape = bar_data(13)  # whole numbers from 6 to 18
    labels = labels[:, 0].long()
    labels[:, -1, -1] = 1
    pipeline = bar_pipeline(likelihood="categorical", in_channels=2, calibration=TRUE)
    report = evaluate_attributes(pipeline, labels, shape, MEASURE, dataset="bars")
    assert report.value("pixel_agreement") == pytest.approx(1 - 1 / 784, abs=1e-9)
    areas = shape.prod(axis=1)
    assert report.value("dice_label_1") == pytest.approx((2 * areas / (2 * areas + 1)).mean(), abs=1e-6)
    assert report.value("edit_mae_width") <= 0.5  # labels have no half pixels
    assert len(report.figures) == 3


def test_agreement_is_taken_at_the_middle_of_the_range() -> None:
    images, shape = bar_data()
    report = evaluate_attributes(bar_pipeline(value_range=(-1, 1)), 2 * images - 1, shape, MEASURE, dataset="bars")
    assert report.value("pixel_agreement") == pytest.approx(1, abs=1e-4)
    assert report.value("traversal_spearman_width") == pytest.approx(1)


def test_a_plain_vae_is_measured_by_its_reconstructions() -> None:
    report = evaluated(attributes=[])
    assert keys(report) == ["pixel_agreement"]
    assert len(report.figures) == 1


def test_a_model_without_calibration_has_no_edits() -> None:
    report = evaluated()
    assert not [key for key in keys(report) if "edit" in key]
    assert report.value("traversal_spearman_height") == pytest.approx(1)
    assert len(report.figures) == 2


@pytest.mark.slow
def test_an_attribute_without_calibration_has_no_edit() -> None:
    report = evaluated(calibration={"height": HEIGHT})
    assert [key for key in keys(report) if "edit" in key] == ["edit_mae_height"]


@pytest.mark.slow
def test_without_a_measure_nothing_is_decoded_to_be_measured() -> None:
    report = evaluated(None, calibration=TRUE)
    assert not [key for key in keys(report) if "traversal" in key or "edit" in key]
    assert report.value("scc") == pytest.approx(1)
    assert len(report.figures) == 2


def test_a_single_attribute_is_compared_with_none() -> None:
    report = evaluated(attributes=["width"], calibration={"width": WIDTH})
    assert keys(report) == [
        "pixel_agreement",
        "latent_sigma_width",
        "traversal_spearman_width",
        "edit_mae_width",
    ]


@pytest.mark.slow
def test_decoded_images_that_cannot_be_measured_are_left_out() -> None:
    def partly(images: np.ndarray) -> np.ndarray:
        shape = width_and_height(images)
        return np.where(shape.sum(axis=1, keepdims=True) > 30, np.nan, shape)

    report = evaluated(Measure(partly, MEASURE.units), calibration=TRUE)
    assert report.value("edit_mae_width") == pytest.approx(0, abs=1e-4)


@pytest.mark.slow
def test_few_images_are_enough_for_the_figures() -> None:
    assert len(evaluated(count=5, calibration=TRUE).figures) == 3


def test_another_measure_is_refused() -> None:
    with pytest.raises(ValueError, match="attributes are width, height; the measure provides area, so width, height c"):
        evaluated(Measure(width_and_height, {"area": "px²"}))


def test_the_report_says_how_it_came_about(perfect: Report) -> None:
    assert perfect.run["seed"] == 0
    assert {metric.dataset for metric in perfect.metrics} == {"bars"}
    assert {metric.n for metric in perfect.metrics} == {60}
    assert perfect.details["latents"] == "posterior means"
