from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import yaml
from contracts.pipeline_contract import seeded
from diffusers import DDIMScheduler
from helpers.command_line import run, stops
from helpers.hub_fixtures import FACTS, REPORT, stock_pipeline
from helpers.small_segmentation import NETWORK, pipeline_of, small_unet
from typer.main import get_command

from meddiffusers import (
    AnomalyDetectionPipeline,
    AttributeVAE,
    AttributeVAEPipeline,
    PatchUNet2DModel,
    ReversibleDDIMScheduler,
)
from meddiffusers.cli import app
from meddiffusers.datasets.digit_attributes import DIGIT_ATTRIBUTES, measure_digits
from meddiffusers.datasets.digits import digits
from meddiffusers.evaluation.attributes import report as attribute_report
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.report import Report

SHIPPED = Path(__file__).parents[2] / "examples" / "checkpoints"
RANGES = {
    "area": (50.0, 200.0),
    "length": (20.0, 60.0),
    "thickness": (1.0, 5.0),
    "slant": (-0.6, 0.8),
    "width": (8.0, 20.0),
    "height": (14.0, 21.0),
}


def commands(group: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, *path, name)


@pytest.fixture(scope="module")
def pipeline() -> AttributeVAEPipeline:
    """Untrained, but calibrated; its last layer is enlarged so that what it decodes has contrast to be measured."""
    torch.manual_seed(0)
    curves = {
        name: {"unit": unit, "values": list(RANGES[name]), "latents": [-3.0, 3.0]}
        for name, unit in DIGIT_ATTRIBUTES.items()
    }
    shape = {"block_out_channels": (4, 8), "hidden_dim": 16, "latent_dim": 8}
    vae = AttributeVAE(**shape, attributes=list(DIGIT_ATTRIBUTES), calibration=curves).eval()
    with torch.no_grad():
        vae.decoder[-1].weight.mul_(100)
    return AttributeVAEPipeline(vae)


@pytest.fixture(scope="module")
def checkpoints(pipeline: AttributeVAEPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    pipeline.save_pretrained(folder / "ar-vae-mnist")
    REPORT.save(folder / "ar-vae-mnist")
    labels = ("background", "necrosis", "oedema", "enhancing")
    pipeline_of(small_unet(mask_channels=4), labels=labels, spacing=26.0).save_pretrained(folder / "seg-ddpm-brain")
    with seeded():
        unet = PatchUNet2DModel(in_channels=4, sample_size=8, network=NETWORK, id2label=["healthy", "diseased"]).eval()
    detector = AnomalyDetectionPipeline(unet, ReversibleDDIMScheduler(), spacing=26.0)
    detector.save_pretrained(folder / "anomaly-ddim-brain")
    whole = ("ar-vae-cardiac", "text-to-mr-brain", "ldm-brain-3d", "ldm-brain-mask-2d", "attribute-predictor-brain")
    for name in (*whole, "lora-lowfield"):
        (folder / name).symlink_to(
            SHIPPED / name
        )  # there are no small models of hearts, or of images that another model can evaluate
    return folder


@pytest.fixture(scope="module")
def repository(checkpoints: Path) -> Path:
    return checkpoints / "ar-vae-mnist"


@pytest.mark.parametrize(("path", "command"), list(commands(get_command(app))), ids=lambda value: str(value))
@pytest.mark.slow
def test_every_command_and_option_explains_itself(path: tuple[str, ...], command: Any) -> None:
    output = run(*path, "--help").output
    assert "Usage" in output
    assert command.help
    assert command.help.split()[0] in output
    for parameter in command.params:
        assert parameter.help, parameter.name


def test_info_describes_a_repository(pipeline: AttributeVAEPipeline, repository: Path) -> None:
    output = run("info", repository).output
    assert f"{sum(weight.numel() for weight in pipeline.vae.parameters()):,}" in output
    assert "vae: 1 channel(s) of 28×28 pixels, intensities in [0, 1]" in output
    assert output.index("attribute area: 50 to 200 px²") < output.index("attribute slant: -0.6 to 0.8 rad")
    assert "licence: no card" in output
    assert "0.9512" in output  # a figure of metrics.json


def test_info_names_issues(pipeline: AttributeVAEPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    weights = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    output = run("info", tmp_path, status=1).output
    assert "issue: vae/diffusion_pytorch_model.safetensors is damaged or cut short (1000 bytes" in output


def test_traverse_writes_the_sweep(pipeline: AttributeVAEPipeline, repository: Path, tmp_path: Path) -> None:
    digit = digits()["test"][0]["image"]
    digit.save(tmp_path / "digit.png")
    run("traverse", repository, tmp_path / "digit.png", "slant", "--steps", 3, "--output", tmp_path / "out.png")
    images = pipeline.traverse(digit, "slant", steps=3, output_type="np").images
    expected = panel({"slant": list(images)}, {"slant": ["-0.6 rad", "0.1 rad", "0.8 rad"]})
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(tmp_path / "out.png")), np.asarray(expected))


@pytest.mark.slow
def test_evaluate_prints_and_writes_the_figures(
    pipeline: AttributeVAEPipeline, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribute_report, "TRAVERSED", 3)
    monkeypatch.setattr(attribute_report, "EDITED", 3)
    output = run("evaluate", "attributes", repository, "--measure", "digits", "--output", tmp_path).output
    report = Report.read(tmp_path)
    test = torch.stack([torch.from_numpy(np.array(image)) for image in digits()["test"]["image"]])[:, None]
    rebuilt = pipeline.reconstruct(test, output_type="pt").images
    assert report.value("pixel_agreement") == pytest.approx(((rebuilt >= 0.5) == (test >= 128)).float().mean())
    for metric in report.metrics:
        assert metric.name in output
        assert f"{metric.value:.4g}" in output
    assert "Edit error (MAE), slant [rad]" in output
    assert len(report.figures) == 3


@pytest.mark.slow
def test_evaluate_takes_own_images_and_no_measure(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "images" / "test"
    images.mkdir(parents=True)
    (tmp_path / "images" / "train").mkdir()
    test = digits()["test"].select(range(0, 1000, 50))
    rows = ["file_name," + ",".join(DIGIT_ATTRIBUTES)]
    for index, row in enumerate(test):
        row["image"].save(images / f"{index}.png")
        rows.append(",".join([f"{index}.png", *(str(row[name]) for name in DIGIT_ATTRIBUTES)]))
    (images / "metadata.csv").write_text("\n".join(rows))
    test[0]["image"].save(images.with_name("train") / "0.png")
    arguments = ("--data", tmp_path / "images", "--measure", "none", "--output", tmp_path / "out")
    output = run("evaluate", "attributes", repository, *arguments).output
    report = Report.read(tmp_path / "out")
    assert {metric.n for metric in report.metrics} == {20}
    assert "Interpretability" in output
    assert "traversal" not in output


@pytest.mark.slow
def test_demo_runs_every_model_and_measures(pipeline: AttributeVAEPipeline, checkpoints: Path, tmp_path: Path) -> None:
    output = run("demo", "--checkpoints", checkpoints, "--output", tmp_path, "--num-inference-steps", 1).output
    images = digits()["test"][::100]["image"]
    errors = []
    for thickness in (2.4, 2.8, 3.2):
        for slant in (-0.2, 0.1, 0.4):
            edited = pipeline.edit(images, {"thickness": thickness, "slant": slant}, output_type="np").images[..., 0]
            measured = measure_digits(edited)[:, [2, 3]]
            errors.append(np.abs(measured - [thickness, slant]))
            means = measured.mean(axis=0)
            assert f"{means[0]:.2f}" in output
            assert f"{means[1]:.2f}" in output
    metrics = json.loads((tmp_path / "metrics.json").read_text())["ar_vae_digits"]
    expected = np.concatenate(errors).mean(axis=0)
    assert metrics["mean_absolute_error_thickness_px"] == pytest.approx(expected[0])
    assert metrics["mean_absolute_error_slant_rad"] == pytest.approx(expected[1])
    assert "1/8 Scans and phantoms …" in output and output.index("7/8 Cardiac") < output.index("8/8 Digits")
    assert output.count("done in") == 8
    assert "target thickness [px]" in output
    names = [image.name for image in (tmp_path / "figures").iterdir()]
    assert sum(name.startswith("ar_vae_digits") for name in names) == 3
    assert sum(name.startswith("scans") for name in names) == 4
    assert sum(name.startswith("segmentation") for name in names) == 3
    assert sum(name.startswith("anomalies") for name in names) == 2
    assert sum(name.startswith("text-to-mr") for name in names) == 3
    assert "tumour_1_t1ce  256 × 256 × 25" in output
    assert f"The page is {tmp_path / 'index.html'}" in output


@pytest.mark.slow
def test_card_write_makes_a_repository_that_lint_passes(pipeline: AttributeVAEPipeline, tmp_path: Path) -> None:
    for seed, scc in enumerate((0.95, 0.97)):
        pipeline.save_pretrained(tmp_path / f"run{seed}")
        metrics = [replace(REPORT.metrics[0], value=scc)]
        replace(REPORT, metrics=metrics, run={"seed": seed, "hardware": "some CPU"}).save(tmp_path / f"run{seed}")
    (tmp_path / "facts.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(asdict(FACTS)))))
    arguments = (tmp_path / "run0", tmp_path / "run1", "--facts", tmp_path / "facts.yaml", "--output", tmp_path / "new")
    run("card", "write", *arguments)
    assert f"0 issue(s) in the card of {tmp_path / 'new'}" in run("card", "lint", tmp_path / "new").output
    assert "0.95 to 0.97, 2 runs, mean 0.96" in (tmp_path / "new" / "README.md").read_text(encoding="utf-8")
    assert "licence: apache-2.0" in run("info", tmp_path / "new").output


def test_card_lint_lists_holes(repository: Path, tmp_path: Path) -> None:
    assert "- There is no README.md." in run("card", "lint", repository, status=1).output
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# A model\n\n## Intended use\n\nTODO\n")
    output = run("card", "lint", tmp_path, status=1).output
    assert "Section 'Training data' is missing." in output
    assert "It has a hole: 'TODO'." in output


def test_publish_hands_over_what_was_asked_for(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []

    def push(*arguments: Any, **options: Any) -> str:
        calls.append((arguments, options))
        return "https://hub/me/name/commit/1"

    monkeypatch.setattr(importlib.import_module("meddiffusers.hub.publish"), "publish", push)
    output = run("publish", repository, "me/name", "--private", "--tag", "v1", "--card", tmp_path / "card.md").output
    assert calls == [((repository, "me/name"), {"card": tmp_path / "card.md", "private": True, "tag": "v1"})]
    assert "Published: https://hub/me/name/commit/1" in output


@pytest.mark.slow
def test_errors_are_told_without_a_traceback(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "large.png"
    PIL.Image.new("L", (32, 28)).save(image)
    for arguments, message in [
        (("info", tmp_path / "nothing"), "It is neither a folder nor a repository on the Hub"),
        (("traverse", repository, image, "slant"), "Got images of (channels, height, width) (1, 28, 32), expected"),
        (("traverse", repository, image, "charm"), "This model has no attribute 'charm'. It has: area, length"),
        (("traverse", repository, tmp_path / "no.png", "slant"), "No such file or directory"),
        (("evaluate", "attributes", repository, "--measure", "heart"), "measure='heart' is unknown. Expected one of"),
    ]:
        assert message in stops(monkeypatch, capsys, *arguments)


def test_commands_on_attributes_refuse_other_pipelines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stock_pipeline(DDIMScheduler()).save_pretrained(tmp_path)
    output = stops(monkeypatch, capsys, "evaluate", "attributes", tmp_path)
    assert "holds a DDPMPipeline; this command takes an AttributeVAEPipeline" in output


def test_square_brackets_reach_the_reader(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ImportError('pip install "meddiffusers[digits]"')

    monkeypatch.setattr("meddiffusers.cli.app", fail)
    assert 'pip install "meddiffusers[digits]"' in stops(monkeypatch, capsys, "demo")
