"""`meddiffusers evaluate ldm`: volumes from covariates, slices from label maps, and its errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from contracts.pipeline_contract import seeded
from helpers.small_latent_diffusion import of_images, of_volumes
from helpers.small_volumes import SIZE, volume_rows
from typer.testing import CliRunner, Result

from meddiffusers import SliceAttributePredictor
from meddiffusers.cli import app
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE, row_features
from meddiffusers.hub.load import load

pytestmark = pytest.mark.usefixtures("small_features")

FEW = ("--num-inference-steps", 1)


def run(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], terminal_width=200)
    assert result.exit_code == status, result.output
    return result


def metrics(folder: Path) -> dict[str, float]:
    return {metric["key"]: metric["value"] for metric in json.loads((folder / "metrics.json").read_text())["metrics"]}


@pytest.mark.slow
def test_volumes_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_volumes(modalities=["t1"], spacing=2.0).save_pretrained(tmp_path / "brains")
    network = {"block_out_channels": [8], "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"]}
    with seeded():
        predictor = SliceAttributePredictor([0, 10, 4], ["t1", "t2"], 96, network={**network, "norm_num_groups": 2})
    predictor.save_pretrained(tmp_path / "predictor")

    def rows(config: Any) -> datasets.DatasetDict:
        assert (config.modalities, config.covariates, config.size) == (["t1"], ["age", "sex"], list(SIZE))
        assert (config.dataset_name, config.table, config.spacing) == ("mine", "t.csv", 2.0)
        return datasets.DatasetDict(train=volume_rows(12), test=volume_rows(9, seed=1))

    monkeypatch.setattr("meddiffusers.datasets.volume_config.load_volume_data", rows)
    monkeypatch.setattr(
        "meddiffusers.evaluation.generation.volumes.SCALES", (1.0,)
    )  # such small volumes have one scale
    out = tmp_path / "out"
    settings = ("--table", "t.csv", "--predictor", tmp_path / "predictor", "--output", out, "--max-samples", 8, *FEW)
    printed = run("evaluate", "ldm", tmp_path / "brains", "mine", *settings).output
    assert "MS-SSIM of pairs" in printed
    found = metrics(out)
    assert {"kid", "age_r", "age_r_held_out", "sex_accuracy"} <= set(found)
    assert list((out / "figures").iterdir())


@pytest.mark.slow
def test_slices_of_label_maps_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_images(modalities=["t1", "flair"], spacing=2.0).save_pretrained(tmp_path / "tumours")
    rng = np.random.default_rng(0)

    def rows(config: Any) -> datasets.DatasetDict:
        assert (config.modalities, config.classes, config.resolution) == (["t1", "flair"], ["core", "rim"], 8)
        image = rng.integers(0, INTENSITY_SCALE, (40, 2, 8, 8)).astype(np.int16)
        masks = (4 * rng.integers(0, 2, (40, 1, 8, 8))).astype(np.uint8)
        table = {"image": list(image), "masks": list(masks), "subject": [str(n) for n in range(40)]}
        features = datasets.Features({name: row_features(2, 1, (8, 8))[name] for name in table})
        part = datasets.Dataset.from_dict(table, features=features)
        return datasets.DatasetDict(train=part, test=part)

    class Segmenter:
        modalities, id2label = ("t1", "flair"), {0: "background", 1: "core", 4: "rim"}

        def set_progress_bar_config(self, disable: bool) -> None:
            assert disable

        def __call__(self, images: torch.Tensor, **_: Any) -> SimpleNamespace:
            return SimpleNamespace(mask=(4 * (images[:, 0] > 0.5)).numpy().astype(np.uint8))

    monkeypatch.setattr("meddiffusers.datasets.labelled_config.load_labelled_data", rows)
    monkeypatch.setattr(
        sys.modules["meddiffusers.hub.load"],
        "load",
        lambda name, **_: Segmenter() if name == "segmenter" else load(name),
    )
    settings = ("--segmenter", "segmenter", "--output", tmp_path / "out", *FEW)
    run("evaluate", "ldm", tmp_path / "tumours", "mine", *settings)
    found = metrics(tmp_path / "out")
    assert {"dice_whole", "dice_rim", "dice_whole_held_out", "kid"} <= set(found)


@pytest.mark.slow
def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    of_images().save_pretrained(tmp_path / "tumours")
    result = CliRunner().invoke(app, ["evaluate", "ldm", str(tmp_path / "tumours")])
    assert "Give --segmenter REPOSITORY, which finds them again" in str(result.exception)
    of_images(mask_labels=None).save_pretrained(tmp_path / "classes")
    result = CliRunner().invoke(app, ["evaluate", "ldm", str(tmp_path / "classes")])
    assert "generates images without label maps; expected a model of volumes, or one with label maps" in str(
        result.exception
    )
