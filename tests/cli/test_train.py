"""`meddiffusers train`: what it lists, what it refuses, what it hands on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from diffusers import DiffusionPipeline
from helpers.command_line import run, stops

from meddiffusers import AttributeVAEPipeline
from meddiffusers.cli.train import configurations, scripts, task_of
from meddiffusers.training.engine import assembly, precision

ROOT = Path(__file__).parents[2]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """The commands and environments that would be run; each is said to end with status 3."""
    commands = []

    class Process:
        def __init__(self, command: list[str], env: dict[str, str]) -> None:
            commands.append((command, env))
            self.interrupted = False

        def __enter__(self) -> Process:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def wait(self) -> int:
            if not self.interrupted:
                self.interrupted = True
                raise KeyboardInterrupt
            return 3

    monkeypatch.setattr(subprocess, "Popen", Process)
    return commands


@pytest.mark.parametrize("arguments", [(), ("--list",), ("segmentation", "--list")])
def test_it_lists_tasks_and_configurations(arguments: tuple[str, ...]) -> None:
    output = run("train", *arguments).output
    lines = output.splitlines()
    assert set(scripts()) == {line.partition(":")[0] for line in lines if line[:1].isalpha() and ": " in line}
    listed = [name for line in lines if line.startswith("    ") for name in line.strip().split(", ")]
    assert sorted(listed) == sorted(configurations())
    assert lines[lines.index(next(line for line in lines if line.startswith("segmentation:"))) + 1].split(", ") == [
        "    segmentation_brain",
        "segmentation_lora",
        "segmentation_paper",
    ]


def test_every_script_and_every_configuration_of_the_tree_is_known() -> None:
    paths = [*(ROOT / "training").glob("train_*.py"), *(ROOT / "training").glob("fit_*.py")]
    assert sorted(path.name for path in scripts().values()) == sorted(path.name for path in paths)
    assert set(configurations()) == {path.stem for path in (ROOT / "training" / "configs").glob("*.yaml")}
    assert {task_of(name) for name in configurations()} == set(scripts())
    assert [task_of(name) for name in ("ar_vae_mnist", "vae_mnist", "slice_autoencoder_256")] == [
        "attribute_vae",
        "attribute_vae",
        "slice_autoencoder",
    ]


def test_help_is_that_of_the_command_without_a_task() -> None:
    assert "Every line of the configuration is also an option" in run("train", "--help").output


def test_an_unknown_task_is_refused_with_the_nearest_name(monkeypatch: Any, capsys: Any) -> None:
    message = stops(monkeypatch, capsys, "train", "segmentatoin")
    assert message.startswith("There is no training task 'segmentatoin' (did you mean segmentation?). Known: anomaly_")


def test_an_unknown_configuration_is_refused_with_the_nearest_name(monkeypatch: Any, capsys: Any) -> None:
    message = stops(monkeypatch, capsys, "train", "segmentation", "--config", "segmentation_brian")
    assert "neither a file nor a packaged one (did you mean segmentation_brain?)." in message


@pytest.mark.parametrize("config", ["text_to_mr_lora", "text_to_mr_lora.yaml"])
def test_it_hands_on_to_accelerate(config: str, launched: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "device_type", lambda: "cpu")
    monkeypatch.setattr(assembly, "available_cores", lambda: 7)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    options = ["--modalities", "t1", "t2", "--rank=2", "--shift", "-1"]
    run("train", "text-to-mr", "--config", config, *options, status=3)  # the script's, after an interruption
    ((command, environment),) = launched
    assert command[:4] == [sys.executable, "-m", "accelerate.commands.launch", "--quiet"]
    assert Path(command[4]).samefile(ROOT / "training" / "train_text_to_mr.py")
    assert Path(command[5].removeprefix("--config=")).samefile(ROOT / "training" / "configs" / "text_to_mr_lora.yaml")
    assert command[6:] == options
    assert environment["OMP_NUM_THREADS"] == "7" and environment.keys() >= os.environ.keys()


def test_a_file_of_ones_own_and_threads_of_ones_own(
    launched: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    (tmp_path / "mine.yaml").write_text("seed: 1\n")
    run("train", "segmentation", "--config", tmp_path / "mine.yaml", status=3)
    ((command, environment),) = launched
    assert command[5:] == [f"--config={tmp_path / 'mine.yaml'}"] and environment["OMP_NUM_THREADS"] == "5"


@pytest.mark.parametrize(
    ("arguments", "script"),
    [(["temporal_consistency"], "fit_temporal_consistency.py"), (["segmentation", "--help"], "train_segmentation.py")],
)
def test_a_fit_and_the_help_of_a_script_need_no_launcher(
    arguments: list[str], script: str, launched: list[Any]
) -> None:
    run("train", *arguments, status=3)
    ((command, _),) = launched
    assert command[0] == sys.executable and Path(command[1]).name == script and command[2:] == arguments[1:]


@pytest.mark.slow
def test_a_short_training(tmp_path: Path) -> None:
    settings = {"max_train_samples": 32, "max_train_steps": 3, "train_batch_size": 8, "hidden_dim": 8, "latent_dim": 2}
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    command = ["-m", "meddiffusers.cli", "train", "attribute_vae", "--config", "vae_mnist", *options]
    done = subprocess.run(
        [sys.executable, *command, "--output_dir", "out"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert isinstance(DiffusionPipeline.from_pretrained(tmp_path / "out"), AttributeVAEPipeline)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["run"]["seed"] == 0
