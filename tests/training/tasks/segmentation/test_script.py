"""`training/train_segmentation.py` from its command line to what it leaves on disk, in this process."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pytest
import torch
import yaml
from diffusers import DiffusionPipeline
from helpers.hub_fixtures import FACTS

from meddiffusers import ConditionalSegmentationPipeline
from meddiffusers.evaluation.report import Report
from meddiffusers.hub.card import card_issues
from meddiffusers.hub.training_config import TrainingRecord
from meddiffusers.pipelines.conditional_segmentation_pipeline import PUBLISHED_AS

SCRIPT = Path(__file__).parents[4] / "training" / "train_segmentation.py"
ADAPTER = "pytorch_lora_weights.safetensors"
Train = Callable[..., Path]

SMALL: dict[str, Any] = {
    "modalities": ["grey"],
    "classes": ["disc"],
    "resolution": 16,
    "block_out_channels": [4, 8],
    "norm_num_groups": 2,
    "train_batch_size": 4,
    "max_train_steps": 2,
    "validation_steps": 1,
}
CARD = replace(
    FACTS,
    pipeline_class="ConditionalSegmentationPipeline",
    pipeline_stem=PUBLISHED_AS,
    pipeline_tag="image-segmentation",
    example="mask = pipe(image).mask",
)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_segmentation", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bright discs of 16×16 pixels and their masks, as `datasets` reads one."""
    folder, rng = tmp_path_factory.mktemp("sets") / "discs", np.random.default_rng(0)
    folder.mkdir()
    y, x = np.mgrid[:16, :16]
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_file_name", "mask_file_name"])
        for index in range(40):
            mask = np.hypot(y - rng.uniform(6, 10), x - rng.uniform(6, 10)) <= rng.uniform(2, 5)
            noise = rng.integers(1, 20, (16, 16))
            names = f"{index:02}.png", f"{index:02}_mask.png"
            PIL.Image.fromarray((noise + 150 * mask).astype(np.uint8)).save(folder / names[0])
            PIL.Image.fromarray(mask.astype(np.uint8) * 255).save(folder / names[1])
            writer.writerow(names)
    return folder


@pytest.fixture
def train(script: ModuleType, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """``train(name=value, …)`` runs the script with these options, on a small network; returns the output folder."""

    def run(**options: Any) -> Path:
        settings = {**SMALL, "dataset_name": images, "output_dir": tmp_path / "out", **options}
        words = [
            word
            for name, value in settings.items()
            for word in (f"--{name}", *map(str, value if isinstance(value, list) else [value]))
        ]
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words])
        script.main()
        return Path(settings["output_dir"])

    return run


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    file = tmp_path / "facts.yaml"
    file.write_text(yaml.safe_dump(json.loads(json.dumps(asdict(CARD)))))
    return file


def log_of(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def probabilities(pipeline: Any) -> np.ndarray:
    """Of two images."""
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return pipeline(images, 2, generator=torch.Generator().manual_seed(1)).probability


@pytest.mark.slow
def test_a_folder_with_a_card_becomes_a_repository(train: Train, facts: Path) -> None:
    output = train(card=facts, seed=3)
    report, repository = Report.read(output), output / "repository"
    assert 0 <= report.value("dice_whole") <= 1
    assert {metric.dataset for metric in report.metrics} == {"discs, test subjects"}
    assert report.run["seed"] == 3 and 0 < report.run["training_minutes"] < 1
    assert len(report.figures) == 2
    record = TrainingRecord.read(repository)
    assert record == TrainingRecord.read(output) and record is not None
    assert record.data["dataset_name"] == "discs" and record.data["resolution"] == 16
    assert record.model["block_out_channels"] == [4, 8] and record.training["seed"] == 3
    assert card_issues((repository / "README.md").read_text(encoding="utf-8"), repository) == []
    assert Report.read(repository).metrics == report.metrics
    before_and_after = [probabilities(DiffusionPipeline.from_pretrained(folder)) for folder in (output, repository)]
    np.testing.assert_array_equal(*before_and_after)
    losses = [line for line in log_of(output) if "loss" in line]
    assert losses and all(line["loss"] == line["mse"] for line in losses)
    assert len([line for line in log_of(output) if "validation/dice" in line]) == 2
    assert len(list((output / "validation").glob("step-*/segmentation.png"))) == 2


@pytest.mark.slow
def test_a_learnt_variance(train: Train) -> None:
    learnt = {"prediction_type": "epsilon", "variance_type": "learned_range", "attention_levels": [1]}
    output = train(noise_samples=2, snr_gamma=5.0, save_in_fp16=True, **learnt)
    pipeline = DiffusionPipeline.from_pretrained(output)
    assert isinstance(pipeline, ConditionalSegmentationPipeline)
    assert pipeline.unet.config["out_channels"] == 2
    assert pipeline.unet.denoiser.config["down_block_types"] == ["DownBlock2D", "AttnDownBlock2D"]
    losses = [line for line in log_of(output) if "loss" in line]
    assert losses and all(line["vlb"] > 0 for line in losses)
    assert all(torch.equal(weight, weight.half().float()) for weight in pipeline.unet.parameters())


@pytest.mark.slow
def test_an_image_encoder(train: Train) -> None:
    output = train(noise_samples=2, image_block_out_channels=[4, 4], feature_channels=8)
    assert DiffusionPipeline.from_pretrained(output).unet.image_encoder is not None
    losses = [line for line in log_of(output) if "loss" in line]
    assert losses and all(line["loss"] == pytest.approx(line["denoising"] + line["prior"]) for line in losses)


@pytest.mark.slow
def test_an_adapter_of_the_repository_that_came_out(train: Train, tmp_path: Path) -> None:
    base = train()
    before = {path: path.read_bytes() for path in base.rglob("*.safetensors")}
    settings = {"pretrained_model_name_or_path": base, "rank": 2, "learning_rate": 1e-2, "lr_warmup_steps": 0}
    output = train(output_dir=tmp_path / "adapter", **settings)
    assert (output / ADAPTER).is_file()
    assert not (output / "model_index.json").exists() and not (output / "unet").exists()
    assert 0 <= Report.read(output).value("dice_whole") <= 1
    assert all(path.read_bytes() == content for path, content in before.items())
    pipeline = DiffusionPipeline.from_pretrained(base)
    pipeline.load_lora_weights(str(output))
    assert any("lora_B" in name and weight.any() for name, weight in pipeline.unet.named_parameters())


@pytest.mark.slow
def test_a_card_for_an_adapter_goes_with_the_weights_that_it_makes(
    train: Train, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repository holds the network with the adapter in its weights, and the adapter."""
    base, finish = train(), script.finish
    monkeypatch.setattr(script, "finish", lambda *arguments: finish(*arguments[:-1], CARD))
    settings = {"pretrained_model_name_or_path": base, "rank": 2, "learning_rate": 3e-2, "lr_warmup_steps": 0}
    output = train(output_dir=tmp_path / "adapter", **settings)
    repository = output / "repository"
    assert card_issues((repository / "README.md").read_text(encoding="utf-8"), repository) == []
    assert (repository / ADAPTER).read_bytes() == (output / ADAPTER).read_bytes()
    adapted = DiffusionPipeline.from_pretrained(base)
    adapted.load_lora_weights(str(output))
    whole, alone = probabilities(DiffusionPipeline.from_pretrained(repository)), probabilities(adapted)
    assert np.abs(whole - alone).max() < 0.01  # half precision
    assert np.abs(whole - probabilities(DiffusionPipeline.from_pretrained(base))).max() > 0.02


@pytest.fixture
def no_training(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "train", lambda *_: pytest.fail("training began"))


@pytest.mark.usefixtures("no_training")
class TestBadInputIsRefusedBeforeTraining:
    def test_publishing_without_a_card(self, train: Train) -> None:
        with pytest.raises(ValueError, match=r"push_to_hub is set but card is not; .* give --card FACTS\.yaml"):
            train(push_to_hub=True, hub_model_id="me/name")

    def test_a_card_with_an_unknown_fact(self, train: Train, tmp_path: Path) -> None:
        (tmp_path / "facts.yaml").write_text("name: x\ncolour: red\n")
        with pytest.raises(ValueError, match=r"facts\.yaml: missing .*unknown \['colour'\]"):
            train(card=tmp_path / "facts.yaml")

    def test_an_adapter_of_nothing(self, train: Train) -> None:
        with pytest.raises(ValueError, match=r"rank=2 but pretrained_model_name_or_path is not set"):
            train(rank=2)

    def test_a_size_that_the_network_cannot_halve(self, train: Train) -> None:
        with pytest.raises(ValueError, match=r"height and width divisible by 4\. Crop, pad or resize"):
            train(resolution=18)

    def test_masks_with_more_labels_than_names(self, train: Train, tmp_path: Path) -> None:
        rows = {"image": [np.ones((16, 16), int).tolist()] * 4, "mask": [np.full((16, 16), 2).tolist()] * 4}
        datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "labels")
        with pytest.raises(ValueError, match=r"a mask with the values 2; expected label ids from 0 to 1"):
            train(dataset_name=tmp_path / "labels")

    def test_a_setting_that_does_not_exist(self, train: Train) -> None:
        with pytest.raises(ValueError, match=r"unknown settings: patchsize \(did you mean patch_size\?\)"):
            train(patchsize=3)
