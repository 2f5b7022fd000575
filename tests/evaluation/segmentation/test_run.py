"""Predictions of small untrained pipelines on random images, with the probability from each source."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
import torch
from helpers.small_segmentation import joint_unet, pipeline_of, random_images

from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE, row_features
from meddiffusers.evaluation.segmentation.run import run_segmentation
from meddiffusers.utils.seeds import sample_generators


def rows() -> datasets.Dataset:
    images = np.rint(INTENSITY_SCALE * random_images(3, 4, 8, 8).numpy()).astype(np.int16)
    columns = {
        "image": list(images),
        "masks": list((images[:, :2] > INTENSITY_SCALE / 2).astype(np.uint8)),
        "subject": ["a", "b", "c"],
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(row_features(4, 2, (8, 8))))


@pytest.mark.parametrize("chosen", ["prior", "samples"])
def test_both_sources_are_run_and_the_chosen_one_is_the_result(chosen: str) -> None:
    pipeline = pipeline_of(probability_from=chosen)
    result = run_segmentation(pipeline, rows(), num_inference_steps=2, ensemble_size=3, seed=5)
    assert pipeline.config["probability_from"] == chosen
    images = torch.from_numpy(np.stack(rows().with_format("numpy")["image"]).astype(np.float32) / INTENSITY_SCALE)
    for source in ("prior", "samples"):
        direct = pipeline_of(probability_from=source)(images, 2, 3, generator=sample_generators(5, 3))
        np.testing.assert_allclose(result.foregrounds[source], 1 - direct.probability[:, 0], atol=1e-6)
        if source == chosen:
            np.testing.assert_array_equal(result.mask, direct.mask)
            np.testing.assert_allclose(result.uncertainty, direct.uncertainty["entropy"], atol=1e-6)
        np.testing.assert_array_equal(result.samples, direct.samples)


def test_without_an_image_encoder_there_is_one_source() -> None:
    result = run_segmentation(pipeline_of(joint_unet()), rows(), num_inference_steps=2, ensemble_size=2)
    assert list(result.foregrounds) == ["samples"]
