"""Evaluation of volumes: orthogonal slices, and metrics of models that follow their covariates or do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from meddiffusers.evaluation.figures.orthogonal_slices import plane_slices
from meddiffusers.evaluation.generation import volumes as volume_report
from meddiffusers.evaluation.generation.volume_attributes import VolumeMeasurements
from meddiffusers.evaluation.generation.volumes import evaluate_volumes

pytestmark = pytest.mark.usefixtures("small_features")


def test_middle_slices_are_upright() -> None:
    volume = np.zeros((1, 4, 6, 2))
    volume[0, 2, 5, 1] = 1  # in the middle from left to right, in front, above
    [[sagittal, coronal, axial]] = plane_slices(volume)
    assert sagittal.shape == (6, 6)
    assert np.argwhere(sagittal).tolist() == [[2, 5]]  # the upper row of the two, far right
    assert np.argwhere(axial).tolist() == [[0, 3]]
    assert not coronal.any()


def balls(sizes: np.ndarray) -> np.ndarray:
    """(B, 32, 36, 32) balls of so many voxels of radius."""
    x, y, z = (np.arange(side) - (side - 1) / 2 for side in (32, 36, 32))
    distance = np.sqrt(x[:, None, None] ** 2 + y[:, None] ** 2 + z**2)
    return np.stack([(distance < size) * 0.8 for size in sizes]).astype(np.float32)


@pytest.mark.parametrize("follows", [True, False])
@pytest.mark.slow
def test_a_model_that_follows_covariates_has_high_metrics(follows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sizes, known_sizes = rng.uniform(6, 14, 40), rng.uniform(6, 14, 30)
    targets, known_covariates = (
        [
            {"brain_volume_ml": size, "age": 5 * size + rng.normal(), "sex": "F" if size < 10 else "M", "weight": None}
            for size in each
        ]
        for each in (sizes, known_sizes)
    )
    generated = balls(sizes if follows else rng.permutation(sizes))

    def measure(predictor: Any, volumes: np.ndarray, spacing: float) -> VolumeMeasurements:
        radius = np.cbrt((volumes > 0).sum(axis=(1, 2, 3)) * 3 / 4 / np.pi)
        return VolumeMeasurements({3: radius, 4: np.zeros(len(volumes))}, radius)

    monkeypatch.setattr(volume_report, "measure_volumes", measure)
    monkeypatch.setattr(volume_report, "PAIRS", 30)
    predictor: Any = object()
    report = evaluate_volumes(
        generated, balls(sizes), balls(known_sizes), targets, known_covariates, predictor, spacing=2.0, dataset="balls"
    )
    for key in ("brain_volume_ml_r", "age_r"):
        assert report.value(f"{key}_held_out") > 0.95
    assert report.value("sex_accuracy_held_out") > 0.9
    assert report.value("age_r_other_covariates") > 0.95  # which correlate with the age
    if follows:
        assert report.value("brain_volume_ml_r") > 0.99 and report.value("brain_volume_ml_mae") < 0.1
        assert report.value("sex_accuracy") > 0.9 and report.value("age_r") > 0.95
    else:
        assert abs(report.value("brain_volume_ml_r")) < 0.5 and report.value("brain_volume_ml_mae") > 1
        assert abs(report.value("age_r")) < 0.5
    assert report.value("ms_ssim_generated") == pytest.approx(report.value("ms_ssim_held_out"), abs=0.1)
    assert not any("weight" in metric.key for metric in report.metrics)
    assert report.figures
