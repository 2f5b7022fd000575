"""Measurements of volumes: axial slices like the predictor's training images, and volumes of labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from meddiffusers.data.phantoms.brain.phantom import BrainPhantom
from meddiffusers.data.preprocessing.slices import slices
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE, normalise_to_int16
from meddiffusers.evaluation.generation.volume_attributes import (
    CovariateEstimator,
    VolumeMeasurements,
    axial_images,
    measure_volumes,
)


@pytest.mark.slow
def test_axial_slices_are_those_of_phantoms() -> None:
    brain, size = BrainPhantom(5), 52
    volume = normalise_to_int16(brain.volume((4.0, 4.0, 20.0), ("t1",)).images["t1"].array)[0] / INTENSITY_SCALE
    axial = axial_images(volume.astype(np.float32), 4.0, size)
    assert axial.shape == (8, 1, size, size)
    heights = brain.volume((4.0, 4.0, 20.0), ("t1",)).images["t1"].affine[2, 3] + 20.0 * np.arange(8)
    for number in (3, 4):
        subject = brain.slice(float(heights[number]), size, ("t1",), thickness=20.0)
        expected = normalise_to_int16(slices(subject.images["t1"]).array[0]).astype(np.float32)[0] / INTENSITY_SCALE
        both = np.corrcoef(axial[number, 0].numpy().ravel(), expected.ravel())[0, 1]
        turned = np.corrcoef(axial[number, 0].numpy()[:, ::-1].ravel(), expected.ravel())[0, 1]
        assert both > 0.97 and both > turned + 0.01


class Predictor:
    """Predicts the left ventricle for bright pixels, cortex for dim ones."""

    config = {"label_ids": [0, 3, 4]}
    device, dtype = torch.device("cpu"), torch.float32

    def __call__(self, images: torch.Tensor) -> Any:
        logits = torch.cat([images < 0.01, (images >= 0.01) & (images < 0.8), images >= 0.8], dim=1).float()
        return type("Output", (), {"logits": logits})


def test_labels_are_counted_in_ml() -> None:
    volume = np.zeros((40, 48, 10), np.float32)
    volume[10:30, 12:36, 2:8] = 0.5
    volume[10:30, 12:24, 2:8] = 1.0
    volume[10:12, 12:36, 2:8] = 0.1  # the darkest become 0
    spacing = 208 / 96  # so that nothing is resampled
    measured = measure_volumes(Predictor(), np.stack([volume, 0 * volume]), spacing)  # type: ignore[arg-type]
    ml = spacing**3 / 1000
    for label in (3, 4):
        assert measured.regions[label] == pytest.approx([18 * 12 * 6 * ml, 0])
    assert CovariateEstimator("ventricular_volume_ml", measured, [])(measured) == pytest.approx(measured.regions[4])


@pytest.mark.slow
def test_bright_voxels_have_the_volume_of_the_brain() -> None:
    brains = [BrainPhantom(5, brain_volume_ml=ml) for ml in (1150.0, 1400.0)]
    images = [
        normalise_to_int16(brain.volume(2.0, ("t1",)).images["t1"].array)[0] / INTENSITY_SCALE for brain in brains
    ]
    measured = measure_volumes(Predictor(), np.stack(images).astype(np.float32), 2.0)  # type: ignore[arg-type]
    assert CovariateEstimator("brain_volume_ml", measured, [])(measured) == pytest.approx([1150, 1400], rel=0.03)


def test_other_covariates_are_estimated_by_regression() -> None:
    rng = np.random.default_rng(0)
    regions = {label: rng.uniform(5, 50, 300) for label in (0, 3, 4, 14)}
    age = 20 + regions[4] + 10 * np.log1p(regions[14])
    words = np.where(regions[3] > 27, "M", "F")
    known, unseen = (
        VolumeMeasurements({label: ml[part] for label, ml in regions.items()}, np.zeros(1))
        for part in (slice(200), slice(200, None))
    )
    measured = CovariateEstimator("age", known, age[:200].tolist())(unseen)
    np.testing.assert_allclose(measured, age[200:], atol=0.5)
    assert (CovariateEstimator("sex", known, words[:200].tolist())(unseen) == words[200:]).mean() > 0.9
    counted = CovariateEstimator("ventricular_volume_ml", known, [])(unseen)
    np.testing.assert_allclose(counted, unseen.regions[4] + unseen.regions[14])
