"""`meddiffusers detect`, `evaluate anomaly` and `convert guided-diffusion --task anomaly`."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from contracts.pipeline_contract import seeded
from helpers.command_line import run, stops
from helpers.guided_diffusion_reference import CLASSIFIERS, DEFAULTS, NETWORKS, inputs, random_weights, recorded
from helpers.recorded_outputs import TOLERANCE, relative_error
from helpers.small_segmentation import NETWORK, pipeline_of

from meddiffusers import AnomalyDetectionPipeline, NoisyClassifier, PatchUNet2DModel, ReversibleDDIMScheduler
from meddiffusers.data.io import read, write
from meddiffusers.data.scan import Scan
from meddiffusers.hub.load import load

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    with seeded():
        unet = PatchUNet2DModel(in_channels=4, sample_size=8, network=NETWORK).eval()
        classifier = NoisyClassifier(4, sample_size=8, block_out_channels=(4, 8), norm_num_groups=2).eval()
    AnomalyDetectionPipeline(unet, ReversibleDDIMScheduler(), classifier, spacing=2.0).save_pretrained(
        tmp_path / "repository"
    )
    return tmp_path / "repository"


@pytest.mark.slow
def test_detect_writes_maps_on_the_voxels_of_the_scans(repository: Path, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(1, 1000, (8, 8, 3)).astype(np.int16)
    for name in ("t1", "flair"):
        write(Scan(array, AFFINE), tmp_path / "subject" / f"{name}.nii.gz")
    settings = ("--num-inference-steps", 2, "--strength", 0.3, "--guidance-scale", 20)
    result = run("detect", repository, tmp_path / "subject", tmp_path / "out", *settings)
    assert "Modalities: t1, flair." in result.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"counterfactual.nii.gz", "anomaly.nii.gz", "mask.nii.gz", "panel.png"}
    anomaly, mask = read(tmp_path / "out" / "anomaly.nii.gz"), read(tmp_path / "out" / "mask.nii.gz")
    assert mask.shape == (8, 8, 3) and np.allclose(mask.affine, AFFINE)
    expected = load(repository)(tmp_path / "subject", 20.0, 0.3, 2)
    np.testing.assert_allclose(anomaly.array, expected.anomaly_map.array, atol=1e-5)
    np.testing.assert_array_equal(mask.array, expected.mask.array)
    assert f"slices: {expected.score.max():.3f}" in result.output


@pytest.mark.slow
def test_evaluate_measures_pixels_and_slices_beside_baselines(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    masks = np.zeros((6, 8, 8), np.uint8)
    masks[:4, 2:5, 2:6] = 1
    images = (0.3 * random.random((6, 4, 8, 8)) + masks[:, None]).astype(np.float32)  # as bright as can be
    rows = {"image": images, "mask": masks, "subject": list("abcdef")}
    datasets.DatasetDict({name: datasets.Dataset.from_dict(rows) for name in ("train", "test")}).save_to_disk(
        tmp_path / "data"
    )
    few = ("--num-inference-steps", 2, "--max-samples", 5, "--output", tmp_path / "out")
    result = run("evaluate", "anomaly", repository, tmp_path / "data", *few)
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    found = {metric["key"]: metric for metric in content["metrics"]}
    assert found["auroc_pixels"]["n"] == 4 and found["auroc_slices"]["n"] == 5 and "AUROC, slices" in result.output
    baselines = content["details"]["baselines"]
    assert baselines["intensity"]["auroc_pixels"] > 0.99 and baselines["intensity"]["best_dice_pixels"] > 0.9
    assert 0 < baselines["unguided"]["auroc_pixels"] < 1 and set(baselines["unguided"]) == set(found)
    assert (tmp_path / "out" / "figures" / "0.png").is_file()
    pipeline_of(spacing=2.0).save_pretrained(tmp_path / "other")
    assert "takes an AnomalyDetectionPipeline" in stops(
        monkeypatch, capsys, "evaluate", "anomaly", tmp_path / "other", tmp_path / "data"
    )


@pytest.mark.slow
def test_convert_makes_a_repository_of_both_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes, outputs = recorded()
    classifier, weights = "classifier of the papers kind", tmp_path / "brats2update.pt"
    torch.save(random_weights(shapes["anomaly"]), weights)
    torch.save(random_weights(shapes[classifier]), tmp_path / "modelbratsclass.pt")
    classes = [f"class {number}" for number in range((DEFAULTS | CLASSIFIERS[classifier])["out_channels"])]
    arguments = ("--task", "anomaly", "--image-size", 16, "--num-heads", 1, "--output", tmp_path / "out")
    given = (
        "--classifier",
        tmp_path / "modelbratsclass.pt",
        "--classes",
        ",".join(classes),
        "--classifier-head-channels",
        16,
    )
    run("convert", "guided-diffusion", weights, *arguments, *given)
    pipeline = load(tmp_path / "out")
    known, seen = (inputs(DEFAULTS | network) for network in (NETWORKS["anomaly"], CLASSIFIERS[classifier]))
    with torch.no_grad():
        predicted = pipeline.unet(known["x"], known["timesteps"], known["y"]).sample
        logits = pipeline.classifier(seen["x"], seen["timesteps"]).logits
    assert relative_error(predicted, outputs["anomaly"]) < TOLERANCE
    assert relative_error(logits, outputs[classifier]) < TOLERANCE
    assert pipeline.image_range == (0.0, 1.0) and pipeline.classifier.id2label == dict(enumerate(classes))
    result = pipeline(torch.rand(1, 4, 16, 16), target=classes[0], num_inference_steps=3)
    assert result.anomaly_map.shape == (1, 16, 16)
    message = stops(monkeypatch, capsys, "convert", "guided-diffusion", weights, "--output", tmp_path / "b", *given[:2])
    assert "--task anomaly" in message
