"""Two runs in one output folder, errors of scripts, damaged checkpoints: messages that name the folder or file."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.toy_task import Start, run_toy
from safetensors.torch import load_file, save_file

from meddiffusers.training.engine.checkpoints import CheckpointError
from meddiffusers.training.engine.running import LOCK, exclusive_output, run

IN_USE = "Another training writes into '{}'. Wait until it ends, stop it, or give another --output_dir."


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.05)


@pytest.mark.slow
def test_a_second_run_in_the_folder_is_refused_and_the_first_goes_on(tmp_path: Path, start: Start) -> None:
    settings = {"output_dir": tmp_path / "runs", "toy": {"pause": 0.05}, "max_train_steps": 60, "logging_steps": 1}
    (first,) = start([settings])
    wait_for(tmp_path / "runs" / "log.jsonl")
    with pytest.raises(ValueError) as error:
        run_toy(tmp_path / "runs")
    assert str(error.value) == IN_USE.format(tmp_path / "runs")
    first.join()
    assert first.exitcode == 0 and (tmp_path / "runs" / "checkpoint-60").is_dir()


@pytest.mark.slow
def test_a_killed_run_leaves_the_folder_free(tmp_path: Path, start: Start) -> None:
    settings = {"output_dir": tmp_path, "toy": {"pause": 0.05}, "checkpointing_steps": 2, "max_train_steps": 500}
    (first,) = start([settings])
    wait_for(tmp_path / "checkpoint-2")
    first.kill()
    first.join()
    assert run_toy(tmp_path, max_train_steps=4, resume_from_checkpoint="checkpoint-2", checkpointing_steps=2).step == 4


@pytest.mark.slow
def test_the_processes_of_one_run_share_the_folder(tmp_path: Path, start: Start) -> None:
    processes = start([{"output_dir": tmp_path, "max_train_steps": 2}], world_size=2)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]


def test_one_process_may_enter_again(tmp_path: Path) -> None:
    with exclusive_output(tmp_path / "a"), exclusive_output(tmp_path / "a"), exclusive_output(tmp_path / "b"):
        (tmp_path / "a" / "file").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"file", LOCK}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=str(tmp_path / "file")), exclusive_output(tmp_path / "file"):
        pass


@pytest.mark.parametrize("error", [ValueError, OSError, ImportError, CheckpointError, FloatingPointError])
def test_expected_errors_end_a_script_without_a_traceback(
    error: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise error("what to do")

    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == 2 and capsys.readouterr().err == "error: what to do\n"


# Damaged checkpoints


def written(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str) -> Callable[[Path], Any]:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size // 2)


def piped(name: str) -> Callable[[Path], Any]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return damage


def facts(**changes: Any) -> Callable[[Path], Any]:
    """Changes of the counters; None removes one."""

    def damage(folder: Path) -> None:
        content = json.loads((folder / "trainer_state.json").read_text())
        content = {name: value for name, value in {**content, **changes}.items() if value is not None}
        (folder / "trainer_state.json").write_text(json.dumps(content))

    return damage


def position(**changes: Any) -> Callable[[Path], Any]:
    known = {"step": 4, "dataset_size": 40, "samples_per_step": 2, "seed": 0}
    return facts(data={name: value for name, value in {**known, **changes}.items() if value is not None})


def moments(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    def damage(folder: Path) -> None:
        saved = torch.load(folder / "optimizer.pt", weights_only=True)
        torch.save(change(saved) or saved, folder / "optimizer.pt")

    return damage


def weights(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], Any]:
    def damage(folder: Path) -> None:
        held = load_file(folder / WEIGHTS)
        save_file({name: change(tensor) for name, tensor in held.items()}, folder / WEIGHTS)

    return damage


FACTS, OPTIMIZER, WEIGHTS = "trainer_state.json", "optimizer.pt", "net/diffusion_pytorch_model.safetensors"
DAMAGES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "facts cut": (FACTS, cut(FACTS), "is not valid JSON"),
    "facts empty": (FACTS, written(FACTS, b""), "is not valid JSON"),
    "facts of a list": (FACTS, written(FACTS, b"[]"), "holds a list, expected an object"),
    "facts deep": (FACTS, written(FACTS, b"[" * 100_000), "nested more than"),
    "facts a pipe": (FACTS, piped(FACTS), "is a pipe"),
    "facts missing": (FACTS, lambda folder: (folder / FACTS).unlink(), "No such file"),
    "no step": (FACTS, facts(step=None), "step None and updates 4"),
    "step of text": (FACTS, facts(step="4"), "step '4'"),
    "more updates than steps": (FACTS, facts(updates=9), "updates 9"),
    "negative seconds": (FACTS, facts(seconds=-1), "seconds -1"),
    "no position": (FACTS, facts(data=None), "position None"),
    "position of a list": (FACTS, facts(data=[1]), r"position \[1\]"),
    "position without size": (FACTS, position(dataset_size=None), "expected step, dataset_size"),
    "position of nothing": (FACTS, position(samples_per_step=0), "expected step, dataset_size"),
    "more per step than there are": (FACTS, position(samples_per_step=41), "more samples per step"),
    "optimiser cut": (OPTIMIZER, cut(OPTIMIZER), "cannot be read"),
    "optimiser empty": (OPTIMIZER, written(OPTIMIZER, b""), "cannot be read"),
    "optimiser a pipe": (OPTIMIZER, piped(OPTIMIZER), "it is a pipe"),
    "optimiser of a list": (OPTIMIZER, moments(lambda saved: [1]), "does not hold the moments"),  # type: ignore[arg-type,return-value]
    "no moments": (OPTIMIZER, moments(lambda saved: saved["moments"].clear()), "no moments, though"),
    "moments of another shape": (
        OPTIMIZER,
        moments(lambda saved: saved["moments"][0].update(exp_avg=torch.zeros(1))),
        "parameter 0 are not of its shape",
    ),
    "moments of no parameter": (OPTIMIZER, moments(lambda s: s["moments"].update({99: {}})), "parameter 99 are not"),
    "moments of NaN": (
        OPTIMIZER,
        moments(lambda saved: list(saved["moments"][1]["exp_avg_sq"].fill_(torch.nan)).clear()),
        "parameter 1 have NaN",
    ),
    "weights cut": (WEIGHTS, cut(WEIGHTS), "cannot be read"),
    "weights a pipe": (WEIGHTS, piped(WEIGHTS), "cannot be read"),
    "weights of NaN": (WEIGHTS, weights(lambda weight: weight * torch.nan), "has NaN or infinite"),
    "weights of another shape": (WEIGHTS, weights(lambda weight: weight[:1].clone()), "size mismatch"),
    "weights of another type": (WEIGHTS, weights(lambda weight: weight.to(torch.int32)), "is of type I32"),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run_toy(folder, max_train_steps=4)
    return folder / "checkpoint-4"


@pytest.mark.parametrize("name,damage,message", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_named_with_its_cause(
    checkpoint: Path, tmp_path: Path, name: str, damage: Callable[[Path], Any], message: str
) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "checkpoint-4"))
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as error:
        run_toy(tmp_path, max_train_steps=6, resume_from_checkpoint="latest")
    assert str(error.value).startswith(f"'{folder / name}' cannot be read: ")
    assert not re.search("[A-Z][a-z]+Error", str(error.value))  # the name of an exception says nothing


def test_damaged_lines_of_the_log_are_dropped(tmp_path: Path) -> None:
    run_toy(tmp_path, max_train_steps=4, logging_steps=1)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    damaged = [lines[0], "[1]", "3}", '{"step": "x"}', '{"step"', "\x00}", *lines[1:], '{"step": 9, "lo']
    (tmp_path / "log.jsonl").write_text("\n".join(damaged))
    run_toy(tmp_path, max_train_steps=5, logging_steps=1, resume_from_checkpoint="latest")
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2, 3, 4, 5]
