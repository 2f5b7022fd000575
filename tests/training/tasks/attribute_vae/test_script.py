"""`training/train_attribute_vae.py` from its command line to what it leaves on disk, in this process."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import PIL.Image
import pytest
import yaml
from diffusers import DiffusionPipeline
from helpers.hub_fixtures import FACTS

from meddiffusers.evaluation.attributes import report as attribute_report
from meddiffusers.evaluation.report import Report
from meddiffusers.hub.card import card_issues
from meddiffusers.training.tasks.attribute_vae import task as attribute_vae_task

SCRIPT = Path(__file__).parents[4] / "training" / "train_attribute_vae.py"
Train = Callable[..., Path]

SMALL: dict[str, Any] = {
    "block_out_channels": [4, 8],
    "hidden_dim": 16,
    "latent_dim": 4,
    "train_batch_size": 16,
    "max_train_steps": 2,
    "validation_steps": 1,
}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_attribute_vae", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def train(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """``train(name=value, …)`` runs the script with these options, on a small network; returns the output folder."""
    monkeypatch.setattr(attribute_vae_task, "NUM_DECODED", 2)
    monkeypatch.setattr(attribute_report, "TRAVERSED", 2)
    monkeypatch.setattr(attribute_report, "EDITED", 2)

    def run(**options: Any) -> Path:
        settings = {**SMALL, "output_dir": tmp_path / "out", **options}
        words = [
            word
            for name, value in settings.items()
            for word in (f"--{name}", *map(str, value if isinstance(value, list) else [value]))
        ]
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words])
        script.main()
        return tmp_path / "out"

    return run


def discs(count: int, size: int = 16) -> tuple[np.ndarray, list[dict[str, float]]]:
    """Discs (count, size, size) in {0, 1}, and the radius and row of each."""
    rng = np.random.default_rng(0)
    radii, rows = rng.uniform(2, 5, count), rng.uniform(6, 10, count)
    y, x = np.mgrid[:size, :size]
    masks = (y - rows[:, None, None]) ** 2 + (x - size / 2) ** 2 <= radii[:, None, None] ** 2
    return masks, [{"radius": radius, "row": row} for radius, row in zip(radii, rows, strict=True)]


def write_images(folder: Path, images: np.ndarray, rows: list[dict[str, float]], suffix: str = ".png") -> Path:
    folder.mkdir()
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file_name", *rows[0]])
        writer.writeheader()
        for index, (image, row) in enumerate(zip(images, rows, strict=True)):
            PIL.Image.fromarray(image).save(folder / f"{index}{suffix}")
            writer.writerow({"file_name": f"{index}{suffix}", **row})
    return folder


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    masks, rows = discs(40)
    return write_images(tmp_path / "grey", masks.astype(np.uint8) * 255, rows)


def log_of(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_digits_with_a_card_become_a_repository(train: Train, tmp_path: Path) -> None:
    (tmp_path / "facts.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(asdict(FACTS)))))
    attributes = ["thickness", "slant"]
    output = train(
        dataset_name="digits",
        measure="digits",
        attributes=attributes,
        max_train_samples=64,
        regression_weight=10,
        max_shift=1,
        card=tmp_path / "facts.yaml",
        seed=3,
    )
    repository = output / "repository"
    assert card_issues((repository / "README.md").read_text(encoding="utf-8"), repository) == []
    report = Report.read(repository)
    assert report.metrics == Report.read(output).metrics
    assert report.run["seed"] == 3
    assert 0 < report.run["training_minutes"] < 1
    pipelines = [DiffusionPipeline.from_pretrained(folder) for folder in (output, repository)]
    latents = [pipe.encode(np.full((28, 28), 200, np.uint8)).tolist() for pipe in pipelines]
    assert pipelines[0].attributes == tuple(attributes)
    assert latents[0] == latents[1]


@pytest.mark.slow
def test_a_plain_vae_of_a_folder(train: Train, grey: Path) -> None:
    output = train(dataset_name=grey, sample_size=16)
    assert [metric.key for metric in Report.read(output).metrics] == ["pixel_agreement"]
    losses = [line for line in log_of(output) if "loss" in line]
    assert losses
    for line in losses:
        assert "ordering" not in line
        assert line["loss"] == pytest.approx(line["reconstruction"] + line["kl"], rel=1e-5)
    assert len(list((output / "validation").glob("step-*/*.png"))) == 2


@pytest.mark.slow
def test_attributes_of_a_table_weigh_in_the_loss(train: Train, grey: Path) -> None:
    weights = {"kl_weight": 0.5, "ordering_weight": 7, "regression_weight": 3, "consistency_weight": 2}
    output = train(dataset_name=grey, sample_size=16, attributes=["radius", "row"], **weights)
    for line in [line for line in log_of(output) if "loss" in line]:
        attributes = 7 * line["ordering"] + 3 * line["regression"] + 2 * line["consistency"]
        assert line["loss"] == pytest.approx(line["reconstruction"] + 0.5 * line["kl"] + attributes, rel=1e-5)
    keys = [metric.key for metric in Report.read(output).metrics]
    assert "scc" in keys
    assert not [key for key in keys if "traversal" in key]  # nothing measures a decoded disc


@pytest.mark.slow
def test_colour_images_with_a_gaussian_likelihood(train: Train, tmp_path: Path) -> None:
    masks, rows = discs(40)
    colours = np.stack([masks * 255, masks * 100, ~masks * 50], axis=3).astype(np.uint8)
    folder = write_images(tmp_path / "colour", colours, rows)
    shape = {"sample_size": 16, "in_channels": 3, "likelihood": "gaussian", "value_range": [-1, 1]}
    output = train(dataset_name=folder, attributes=["radius"], **shape)
    pipe = DiffusionPipeline.from_pretrained(output)
    assert np.asarray(pipe.reconstruct(colours[0]).images[0]).shape == (16, 16, 3)
    assert 0 < Report.read(output).value("pixel_agreement") <= 1


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.slow
def test_label_maps_with_a_categorical_likelihood(train: Train, tmp_path: Path, labels: int) -> None:
    masks, rows = discs(40)
    maps = masks.astype(np.uint8) * (labels - 1)
    folder = write_images(tmp_path / "maps", maps, rows)
    shape = {"sample_size": 16, "in_channels": labels, "likelihood": "categorical", "dice_weight": 2.0}
    output = train(dataset_name=folder, attributes=["radius", "row"], **shape)
    for line in [line for line in log_of(output) if "loss" in line]:
        assert line["loss"] == pytest.approx(
            line["reconstruction"] + line["kl"] + 2 * line["dice"] + 10 * line["ordering"], rel=1e-5
        )
    rebuilt = DiffusionPipeline.from_pretrained(output).reconstruct(maps[0], output_type="np").images
    assert set(np.unique(rebuilt)) <= set(range(labels))


@pytest.fixture
def no_training(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "train", lambda *_: pytest.fail("training began"))


@pytest.mark.usefixtures("no_training")
class TestBadInputIsRefusedBeforeTraining:
    def test_another_size(self, train: Train, grey: Path) -> None:
        with pytest.raises(ValueError, match=r"Got images of .* \(1, 16, 16\), expected \(1, 28, 28\)\. Crop, pad"):
            train(dataset_name=grey)

    def test_another_channel_count(self, train: Train, grey: Path) -> None:
        with pytest.raises(ValueError, match=r"\(1, 16, 16\), expected \(2, 16, 16\)"):
            train(dataset_name=grey, sample_size=16, in_channels=2)

    def test_ten_images(self, train: Train, tmp_path: Path) -> None:
        masks, rows = discs(10)
        folder = write_images(tmp_path / "ten", masks.astype(np.uint8) * 255, rows)
        with pytest.raises(
            ValueError, match=r"ten has 2 test images; expected at least 4, .* Add images, or give a te"
        ):
            train(dataset_name=folder, sample_size=16, attributes=["radius", "row"], train_batch_size=4)

    def test_nan_in_one_image(self, train: Train, tmp_path: Path) -> None:
        masks, rows = discs(40)
        images = masks.astype(np.float32)
        images[17, 3, 3] = np.nan
        folder = write_images(tmp_path / "broken", images, rows, suffix=".tiff")
        with pytest.raises(ValueError, match="1 images have pixels that are NaN or infinite"):
            train(dataset_name=folder, sample_size=16, split_seed=1)

    def test_values_out_of_range_in_one_image(self, train: Train, tmp_path: Path) -> None:
        masks, rows = discs(40)
        images = masks.astype(np.float32)
        images[17] *= 400
        folder = write_images(tmp_path / "hounsfield", images, rows, suffix=".tiff")
        with pytest.raises(ValueError, match=r"intensities in \[0, 400\], expected the model's range \[0, 1\]"):
            train(dataset_name=folder, sample_size=16, split_seed=1)

    def test_a_label_too_many_in_one_map(self, train: Train, tmp_path: Path) -> None:
        masks, rows = discs(40)
        maps = masks.astype(np.uint8)
        maps[17] *= 5
        folder = write_images(tmp_path / "maps", maps, rows)
        with pytest.raises(ValueError, match="Got labels 0 to 5, expected 0 to 1"):
            train(dataset_name=folder, sample_size=16, in_channels=2, likelihood="categorical", split_seed=1)

    def test_an_attribute_that_is_no_column(self, train: Train, grey: Path) -> None:
        with pytest.raises(ValueError, match=r"has no column for volume, .* It has image, radius, row"):
            train(dataset_name=grey, sample_size=16, attributes=["volume"])

    def test_more_attributes_than_dimensions(self, train: Train, grey: Path) -> None:
        with pytest.raises(ValueError, match=r"2 attributes .* do not fit 1 latent dimensions"):
            train(dataset_name=grey, sample_size=16, attributes=["radius", "row"], latent_dim=1)

    def test_a_setting_that_does_not_exist(self, train: Train, grey: Path) -> None:
        with pytest.raises(ValueError, match=r"unknown settings: latent_dims \(did you mean latent_dim\?\)"):
            train(dataset_name=grey, latent_dims=3)

    def test_publishing_without_a_card(self, train: Train, grey: Path) -> None:
        with pytest.raises(ValueError, match=r"push_to_hub is set but card is not; .* give --card FACTS\.yaml"):
            train(dataset_name=grey, push_to_hub=True, hub_model_id="me/name")

    def test_a_card_with_an_unknown_fact(self, train: Train, grey: Path, tmp_path: Path) -> None:
        (tmp_path / "facts.yaml").write_text("name: x\ncolour: red\n")
        with pytest.raises(ValueError, match=r"facts\.yaml: missing .*unknown \['colour'\]"):
            train(dataset_name=grey, card=tmp_path / "facts.yaml")
