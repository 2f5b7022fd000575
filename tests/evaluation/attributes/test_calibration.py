from __future__ import annotations

import logging

import numpy as np
import pytest
from helpers.bar_pipeline import MEASURE, OFFSET, SLOPE, bar_data, bar_pipeline, width_and_height

from meddiffusers.datasets.attribute_measures import Measure
from meddiffusers.evaluation.attributes.calibration import calibration_by_decoding, calibration_by_encoding
from meddiffusers.models.attribute_vae import AttributeVAE


def latents_of(values: np.ndarray, dimension: int) -> np.ndarray:
    return (values - OFFSET[dimension]) / SLOPE[dimension]


def saturating(images: np.ndarray) -> np.ndarray:
    """Widths stop at 16 px; images that are narrower than 8 px cannot be measured."""
    widths = width_and_height(images)[:, :1]
    return np.where(widths < 8, np.nan, np.minimum(widths, 16))


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0)])
def test_decoding_finds_the_line_that_the_decoder_follows(value_range: tuple[float, float]) -> None:
    images, shape = bar_data()
    low, high = value_range
    curves = calibration_by_decoding(bar_pipeline(value_range=value_range), low + (high - low) * images, MEASURE)
    assert list(curves) == ["width", "height"]
    for dimension, curve in enumerate(curves.values()):
        values, latents = np.array(curve["values"]), np.array(curve["latents"])
        assert curve["unit"] == "px"
        assert len(values) == 15
        np.testing.assert_allclose(latents, latents_of(values, dimension), atol=1e-5)
        np.testing.assert_allclose(values[[0, -1]], np.percentile(shape[:, dimension], [0.5, 99.5]), atol=1e-4)


def test_encoding_finds_a_curve_that_is_no_line() -> None:
    images, shape = bar_data(400)
    attributes = np.exp(shape / 6)
    curve = calibration_by_encoding(bar_pipeline(), images, attributes, units={"width": "a.u."})["width"]
    assert curve["unit"] == "a.u."
    np.testing.assert_allclose(curve["latents"], latents_of(6 * np.log(curve["values"]), 0), atol=2e-3)
    np.testing.assert_allclose(np.diff(curve["values"]), np.diff(curve["values"])[0], rtol=1e-4)  # an even grid


def test_a_curve_holds_only_where_the_attribute_is_measured_and_moves() -> None:
    images, _ = bar_data()
    measure = Measure(saturating, {"width": "px"})
    curve = calibration_by_decoding(bar_pipeline(attributes=["width"]), images, measure)["width"]
    assert 8 <= curve["values"][0] < 9
    assert curve["values"][-1] == 16
    np.testing.assert_allclose(curve["latents"][:-1], latents_of(np.array(curve["values"][:-1]), 0), atol=1e-5)
    AttributeVAE(attributes=["width"], calibration={"width": curve})  # which checks that both lists rise


def test_an_outlier_costs_its_own_points_and_no_more() -> None:
    images, _ = bar_data()

    def glitch(images: np.ndarray) -> np.ndarray:
        widths = width_and_height(images)[:, :1]
        return np.where(widths < 7, 9.0, widths)

    curve = calibration_by_decoding(bar_pipeline(attributes=["width"]), images, Measure(glitch, {"width": "px"}))
    values = np.array(curve["width"]["values"])
    assert len(values) > 10
    np.testing.assert_allclose(curve["width"]["latents"][1:], latents_of(values[1:], 0), atol=1e-5)


def test_attributes_that_their_dimension_does_not_raise_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    images, _ = bar_data()

    def measured(images: np.ndarray) -> np.ndarray:
        width, height = width_and_height(images).T
        return np.stack([width, -height, images.sum(axis=(1, 2)) * 0 + 3, np.full(len(images), np.nan)], axis=1)

    names = ["width", "falling", "constant", "unmeasurable"]
    measure = Measure(measured, dict.fromkeys(names, "px"))
    with caplog.at_level(logging.WARNING):
        curves = calibration_by_decoding(bar_pipeline(attributes=names, latent_dim=4), images, measure)
    assert list(curves) == ["width"]
    assert "falling, constant, unmeasurable: no calibration, because the latent dimension hardly changes" in caplog.text


def test_encoding_leaves_out_what_the_latents_do_not_follow(caplog: pytest.LogCaptureFixture) -> None:
    images, shape = bar_data()
    curves = calibration_by_encoding(bar_pipeline(), images, shape * [1, -1], units={})
    assert list(curves) == ["width"]
    assert "height: no calibration" in caplog.text


def test_all_images_count_though_they_go_through_in_batches() -> None:
    images, shape = bar_data(600)
    curve = calibration_by_encoding(bar_pipeline(), images, shape, units={})["width"]
    np.testing.assert_allclose(curve["latents"], latents_of(np.array(curve["values"]), 0), atol=1e-5)
