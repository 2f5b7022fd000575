"""The report of volumes: slices as they are looked at, and figures of models that obey, or do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from meddiffusers.evaluation import volume_report
from meddiffusers.evaluation.volume_report import evaluate_volumes
from meddiffusers.evaluation.volume_slices import plane_slices


def test_middle_slices_are_upright() -> None:
    volume = np.zeros((1, 4, 6, 2))
    volume[0, 2, 5, 1] = 1  # in the middle from left to right, in front, above
    [[sagittal, coronal, axial]] = plane_slices(volume)
    assert sagittal.shape == (6, 6)
    assert np.argwhere(sagittal).tolist() == [[2, 5]]  # the upper row of the two, far right
    assert np.argwhere(axial).tolist() == [[0, 3]]
    assert not coronal.any()


def balls(sizes: np.ndarray) -> np.ndarray:
    """(N, 32, 36, 32) balls of so many voxels of radius."""
    x, y, z = (np.arange(side) - (side - 1) / 2 for side in (32, 36, 32))
    distance = np.sqrt(x[:, None, None] ** 2 + y[:, None] ** 2 + z**2)
    return np.stack([(distance < size) * 0.8 for size in sizes]).astype(np.float32)


@pytest.mark.parametrize("obeys", [True, False])
def test_a_model_that_obeys_has_high_figures(obeys: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sizes = rng.uniform(6, 14, 40)
    told = [{"brain_volume_ml": size, "sex": "F" if size < 10 else "M"} for size in sizes]
    drawn = balls(sizes if obeys else rng.permutation(sizes))

    def read(reader: Any, volumes: np.ndarray, spacing: float) -> dict[str, np.ndarray]:
        radii = np.cbrt((volumes > 0).sum(axis=(1, 2, 3)) * 3 / 4 / np.pi)
        return {"brain_volume_ml": radii, "male": radii - 10}

    monkeypatch.setattr(volume_report, "read_volumes", read)
    judge: Any = object()
    report = evaluate_volumes(
        drawn, balls(sizes), balls(rng.uniform(6, 14, 30)), told, judge, spacing=2.0, dataset="balls"
    )
    ceiling = "brain_volume_ml r, held-out volumes"
    assert report.value(ceiling) > 0.99 and report.value("sex, held-out volumes") > 0.95
    if obeys:
        assert report.value("brain_volume_ml r") > 0.99 and report.value("brain_volume_ml error") < 0.1
        assert report.value("sex") > 0.95
    else:
        assert abs(report.value("brain_volume_ml r")) < 0.5 and report.value("brain_volume_ml error") > 1
    assert report.value("MS-SSIM of pairs, drawn") == pytest.approx(report.value("MS-SSIM of pairs, held-out"), abs=0.1)
    assert "age r" not in {metric.name for metric in report.metrics}
    assert report.pictures
