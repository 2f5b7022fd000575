from __future__ import annotations

from dataclasses import replace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from contracts.pipeline_contract import generator, seeded
from helpers.small_segmentation import NETWORK, random_images

from meddiffusers import AnomalyDetectionPipeline, PatchUNet2DModel, ReversibleDDIMScheduler
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE
from meddiffusers.evaluation.anomaly.baselines import result_from_map, run_threshold, run_unguided
from meddiffusers.evaluation.anomaly.report import anomaly_metrics
from meddiffusers.evaluation.anomaly.result import AnomalyResult, run_anomaly
from meddiffusers.pipelines.meddiffusers_anomaly_maps_v1 import SMOOTHING


@pytest.fixture
def result() -> AnomalyResult:
    """Bright lesions in a head of an even grey with noise; brighter still is what lies outside of it."""
    random = np.random.default_rng(0)
    reference = np.zeros((6, 20, 20), bool)
    reference[:4, 5:10, 6:12] = True
    head = np.zeros_like(reference)
    head[:, 2:18, 2:18] = True
    images = np.where(head, 0.3 + 0.05 * random.random(reference.shape) + 0.4 * reference, 1).astype(np.float32)
    return AnomalyResult(
        maps=np.zeros_like(images),
        masks=np.zeros_like(reference),
        scores=np.zeros(6, np.float32),
        reference=reference,
        head=head,
        images=images,
        counterfactuals=np.zeros_like(images),
        lesions=["tumour"] * 4 + ["none"] * 2,
        subjects=list("abcdef"),
        spacing=(2.0, 2.0),
    )


@pytest.mark.slow
def test_the_threshold_finds_what_is_bright_in_the_head(result: AnomalyResult) -> None:
    found = run_threshold(result, smoothing=0)
    np.testing.assert_array_equal(found.masks, result.reference)
    metrics = {metric.key: metric.value for metric in anomaly_metrics(found, "squares")}
    assert metrics["auroc_pixels"] == metrics["auroc_slices"] == metrics["dice_mask"] == 1.0
    flat = run_threshold(replace(result, images=np.full_like(result.images, 0.3)), smoothing=0)
    assert {metric.key: metric.value for metric in anomaly_metrics(flat, "squares")}["auroc_pixels"] == 0.5


def test_scores_and_masks_of_a_map_are_those_of_the_pipeline() -> None:
    with seeded():
        unet = PatchUNet2DModel(in_channels=4, sample_size=8, network=NETWORK).eval()
    pipeline = AnomalyDetectionPipeline(unet, ReversibleDDIMScheduler(), spacing=2.0)
    images = (random_images(3, 4, 8, 8).numpy() * INTENSITY_SCALE).astype(np.int16)
    masks = np.zeros((3, 1, 8, 8), np.uint8)
    masks[0, 0, 2:4, 2:4] = 1
    rows = datasets.Dataset.from_dict({"image": images, "masks": masks, "subject": list("abc")})
    found = run_unguided(pipeline, rows, num_inference_steps=2)
    again = result_from_map(found, found.maps)
    np.testing.assert_allclose(again.scores, found.scores, rtol=1e-6)
    np.testing.assert_array_equal(again.masks, found.masks)
    settings: dict[str, Any] = {"method": "none", "encoding": "noise", "smoothing": SMOOTHING, "num_inference_steps": 2}
    np.testing.assert_array_equal(run_anomaly(pipeline, rows, **settings).maps, found.maps)
    own = pipeline(
        torch.from_numpy(images[:1] / INTENSITY_SCALE).float(), generator=[generator(0)], **settings
    ).anomaly_map
    np.testing.assert_allclose(own[0], found.maps[0], atol=1e-5)
    assert not np.allclose(run_unguided(pipeline, rows, seed=1, num_inference_steps=2).maps, found.maps, atol=1e-3)
