"""Scans through the segmentation pipeline: cut, segmented slice by slice, and put back."""

from __future__ import annotations

import builtins
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small_segmentation import LABELS, pipeline_of

from meddiffusers.data.io import write
from meddiffusers.data.preprocessing.subject_slices import subject_slices
from meddiffusers.data.scan import Scan, stack_channels
from meddiffusers.data.subject import Subject

AFFINE = np.array([[-2.0, 0, 0, 20], [0, -2.0, 0, 30], [0, 0, 4.0, -10], [0, 0, 0, 1]])  # LPS


def scans() -> dict[str, Scan]:
    """Two modalities of 8×8×5 voxels with an empty slice."""
    random = np.random.default_rng(0)
    arrays = {name: random.integers(1, 900, (8, 8, 5)).astype(np.int16) for name in ("flair", "t1")}
    for array in arrays.values():
        array[..., 2] = 0
    return {name: Scan(array, AFFINE, name) for name, array in arrays.items()}


def segmented(source: Any, labels: list[str] = LABELS, **arguments: Any) -> Any:
    pipeline = pipeline_of(labels=labels, spacing=2.0)
    return pipeline(source, 3, 2, generator=torch.Generator().manual_seed(0), **arguments)


def test_slices_are_segmented_as_images_are() -> None:
    pipeline = pipeline_of(labels=LABELS, spacing=2.0)
    cut = subject_slices(scans(), pipeline.modalities, spacing=2.0, size=(8, 8))
    assert cut.numbers.tolist() == [0, 1, 3, 4]
    images = pipeline(torch.from_numpy(cut.images), 3, 2, generator=torch.Generator().manual_seed(0))
    output = segmented(scans())
    fill = [1, 0, 0, 0]
    np.testing.assert_array_equal(output.probability.array, cut.invert(images.probability, LABELS, fill).array)
    for slice_, number in enumerate(cut.numbers):  # LPS voxels (i, j) are columns from the left and rows from the front
        np.testing.assert_array_equal(output.mask.array[0, :, :, number], images.mask[slice_].T)
        for member in (0, 1):
            restored = output.samples.array[member, :, :, number]
            np.testing.assert_array_equal(restored, images.samples[slice_, member].T)
        for name in ("variance", "entropy"):
            restored = output.uncertainty[name].array[0, :, :, number]
            np.testing.assert_allclose(restored, images.uncertainty[name][slice_].T, atol=1e-6)


def test_what_was_not_looked_at_is_background_without_doubt() -> None:
    output = segmented(scans())
    assert not output.mask.array[..., 2].any() and not output.samples.array[..., 2].any()
    assert (output.probability.array[0, ..., 2] == 1).all() and not output.uncertainty["entropy"].array[..., 2].any()


def test_outputs_lie_on_the_voxels_of_the_file() -> None:
    fine = {name: Scan(scan.array.repeat(2, 1).repeat(2, 2), AFFINE @ np.diag([0.5, 0.5, 1, 1]), name)
            for name, scan in scans().items()}  # fmt: skip
    output = segmented(fine)
    for scan in (output.mask, output.probability, output.samples, *output.uncertainty.values()):
        assert scan.shape == (16, 16, 5) and scan.affine.tobytes() == fine["t1"].affine.tobytes()
    assert output.mask.is_labels and output.samples.is_labels and output.samples.array.dtype == np.uint8
    assert output.probability.modality == tuple(LABELS)
    np.testing.assert_allclose(output.probability.array.sum(axis=0), 1, atol=1e-5)


@pytest.mark.slow
def test_every_way_to_give_a_subject_is_the_same(tmp_path: Path) -> None:
    expected = segmented(scans()).probability.array
    for name, scan in scans().items():
        write(scan, tmp_path / "patient" / f"{name}.nii.gz")
    sources = {
        "one scan": stack_channels(list(scans().values())),
        "list": list(scans().values()),
        "case": Subject(1, scans()),
        "folder": tmp_path / "patient",
        "name of a folder": str(tmp_path / "patient"),
        "paths": {name: tmp_path / "patient" / f"{name}.nii.gz" for name in ("t1", "flair")},
    }
    for name, source in sources.items():
        np.testing.assert_array_equal(segmented(source).probability.array, expected, err_msg=name)


def test_threshold_and_labels_hold_on_the_voxels_of_the_file() -> None:
    output = segmented(scans(), threshold=0.8)
    np.testing.assert_array_equal(output.mask.array[0] > 0, 1 - output.probability.array[0] > np.float32(0.8))


def test_issues_are_told_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"pixel spacing of this model is unknown.*register_to_config"):
        pipeline_of()(scans())
    pipeline = pipeline_of(spacing=2.0)
    with pytest.raises(ValueError, match="expected at least one of t1, t1ce, t2, flair"):
        pipeline({"pd": replace(scans()["t1"], modality="pd")})
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "meddiffusers.data.preprocessing.subject_slices":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"not installed here.*give tensors or arrays"):
        pipeline(scans())
