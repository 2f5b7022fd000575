from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from helpers.command_line import run, stops
from helpers.guided_diffusion_reference import DEFAULTS as REFERENCE
from helpers.guided_diffusion_reference import NETWORKS, inputs, random_weights, recorded
from helpers.small_segmentation import pipeline_of

from meddiffusers.data.io import read, write
from meddiffusers.data.scan import Scan
from meddiffusers.hub.load import load

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    pipeline_of(spacing=2.0).save_pretrained(tmp_path / "repository")
    return tmp_path / "repository"


@pytest.fixture
def subject(tmp_path: Path) -> Path:
    array = np.random.default_rng(0).integers(1, 1000, (8, 8, 3)).astype(np.int16)
    for name in ("t1", "flair"):
        write(Scan(array, AFFINE), tmp_path / "subject" / f"{name}.nii.gz")
    return tmp_path / "subject"


@pytest.mark.slow
def test_segment_writes_masks_and_maps_on_the_voxels_of_the_scans(
    repository: Path, subject: Path, tmp_path: Path
) -> None:
    result = run("segment", repository, subject, tmp_path / "out", "--num-inference-steps", 2, "--ensemble-size", 2)
    assert "Modalities: t1, flair." in result.output
    mask, probability = read(tmp_path / "out" / "mask.nii.gz"), read(tmp_path / "out" / "probability.nii.gz")
    assert mask.shape == (8, 8, 3) and np.allclose(mask.affine, AFFINE)
    np.testing.assert_allclose(probability.array.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(mask.array[0], probability.array[0] < 0.5)
    expected = load(repository)(subject, 2, 2, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(mask.array, expected.mask.array)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "mask.nii.gz", "probability.nii.gz", "variance.nii.gz", "entropy.nii.gz", "panel.png",
    }  # fmt: skip


@pytest.mark.slow
def test_a_single_scan_needs_a_modality(
    repository: Path,
    subject: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    unnamed = subject.rename(tmp_path / "other") / "t1.nii.gz"
    unnamed = unnamed.rename(tmp_path / "scan.nii.gz")
    few = ("--num-inference-steps", 1, "--ensemble-size", 1)
    assert "is unknown; give it" in stops(monkeypatch, capsys, "segment", repository, unnamed, tmp_path / "out", *few)
    output = run("segment", repository, unnamed, tmp_path / "out", "--modality", "t1ce", *few).output
    assert "Modalities: t1ce." in output


@pytest.mark.slow
def test_evaluate_measures_images_with_masks(repository: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    masks = np.zeros((4, 8, 8), np.uint8)
    masks[:, 2:5, 2:6] = 1
    images = random.random((4, 4, 8, 8)).astype(np.float32) + masks[:, None]
    rows = {"image": images, "mask": masks, "subject": list("abcd")}
    datasets.DatasetDict({name: datasets.Dataset.from_dict(rows) for name in ("train", "test")}).save_to_disk(
        tmp_path / "data"
    )
    few = ("--num-inference-steps", 2, "--ensemble-size", 2, "--max-samples", 3)
    result = run("evaluate", "segmentation", repository, tmp_path / "data", *few, "--output", tmp_path / "out")
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    found = {metric["key"]: metric for metric in content["metrics"]}
    assert found["dice_whole"]["n"] == 3 and "Dice, whole" in result.output
    assert (tmp_path / "out" / "figures" / "0.png").is_file()


@pytest.mark.slow
def test_convert_makes_a_repository_that_computes_what_the_reference_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes, outputs = recorded()
    torch.save(random_weights(shapes["segmentation"]), tmp_path / "savedmodel.pt")
    arguments = ("--output", tmp_path / "out", "--image-size", 16, "--num-heads", 1)
    run("convert", "guided-diffusion", tmp_path / "savedmodel.pt", *arguments)
    pipeline = load(tmp_path / "out")
    x, timesteps = (inputs(REFERENCE | NETWORKS["segmentation"])[name] for name in ("x", "timesteps"))
    with torch.no_grad():
        found = pipeline.unet(x, timesteps).sample
    torch.testing.assert_close(found, outputs["segmentation"], atol=1e-5, rtol=0)
    assert pipeline.mask_range == (0.0, 1.0) and pipeline.scheduler.config.variance_type == "learned_range"
    result = pipeline(torch.rand(1, 4, 16, 16), num_inference_steps=3, ensemble_size=2)
    assert result.samples.shape == (1, 2, 16, 16)
    assert "not empty" in stops(
        monkeypatch, capsys, "convert", "guided-diffusion", tmp_path / "savedmodel.pt", *arguments
    )
