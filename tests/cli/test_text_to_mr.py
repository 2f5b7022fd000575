"""`meddiffusers text-to-mr` and `evaluate text-to-mr`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import nibabel
import numpy as np
import pytest
import torch
from helpers.small_text_to_mr import small_text_to_mr, text_rows
from typer.testing import CliRunner, Result

from meddiffusers import SliceAttributePredictor
from meddiffusers.cli import app
from meddiffusers.hub.training_config import TrainingRecord
from meddiffusers.utils.seeds import sample_seed

pytestmark = pytest.mark.usefixtures("small_features")


def run(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], terminal_width=200)
    assert result.exit_code == status, result.output
    return result


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text-to-mr")
    small_text_to_mr(positions=512, spacing=13.0).save_pretrained(folder)
    TrainingRecord({"phantom_modalities": ["t1", "t2"]}, {"rank": None}, {"seed": 0}).save(folder)
    return folder


@pytest.mark.slow
def test_it_writes_slices_and_a_panel(repository: Path, tmp_path: Path) -> None:
    options = ("--num-images", 2, "--num-inference-steps", 2, "--seed", 5)
    run("text-to-mr", repository, "T1 weighted brain", tmp_path, *options)
    files = sorted(tmp_path.glob("*.nii.gz"))
    assert [file.name for file in files] == ["slice-0.nii.gz", "slice-1.nii.gz"]
    images: list[Any] = [nibabel.load(file) for file in files]
    assert images[0].shape == (16, 16, 1) and images[0].header.get_zooms()[:2] == (13.0, 13.0)
    noise = torch.Generator().manual_seed(sample_seed(5, 1))
    expected = small_text_to_mr(positions=512, spacing=13.0)(
        "T1 weighted brain", num_inference_steps=2, output_type="np", generator=noise
    ).images[0, ..., 0]
    np.testing.assert_allclose(images[1].get_fdata()[..., 0].T, expected, atol=2e-4)
    assert (tmp_path / "panel.png").stat().st_size > 1000


@pytest.mark.slow
def test_evaluate_prints_and_writes_the_metrics(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = {"block_out_channels": [8], "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"]}
    torch.manual_seed(0)
    predictor = SliceAttributePredictor([0, 10, 49], ["t1", "t2"], 16, network={**network, "norm_num_groups": 2})
    predictor.save_pretrained(tmp_path / "predictor")

    def load(config: Any) -> datasets.DatasetDict:
        assert (config.resolution, config.spacing, config.phantom_modalities) == (16, 13.0, ["t1", "t2"])
        rows = {"train": text_rows(12), "test": text_rows(30, seed=1)}
        voxel = {"voxel": [13.0, 13.0, 1.0]}
        return datasets.DatasetDict(
            {
                name: each.map(lambda row: {**row, "facts": {**row["facts"], **voxel}}, features=each.features)
                for name, each in rows.items()
            }
        )

    monkeypatch.setattr("meddiffusers.datasets.captioned_config.load_captioned_data", load)
    arguments = ["--predictor", tmp_path / "predictor", "--num-inference-steps", 1, "--max-samples", 24]
    output = run("evaluate", "text-to-mr", repository, *arguments, "--output", tmp_path / "metrics").output
    found = {metric["key"]: metric for metric in json.loads((tmp_path / "metrics/metrics.json").read_text())["metrics"]}
    assert found["modality_accuracy"]["n"] == 24 and f"{found['swapped_dice']['value']:.4g}" in output
    assert (tmp_path / "metrics" / "figures" / "0.png").is_file()


def test_another_kind_of_repository_is_refused(tmp_path: Path) -> None:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(4,),
        norm_num_groups=2,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path)
    result = CliRunner().invoke(app, ["text-to-mr", str(tmp_path), "T1", str(tmp_path / "out")])
    assert result.exit_code != 0 and "takes a TextToMRPipeline" in str(result.exception)
