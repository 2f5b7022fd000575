"""Two processes (gloo) do together what one process does with the whole batch."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.toy_task import Start, ToyTask, run_toy
from safetensors.torch import load_file

HARD = {"pairwise": True}  # noise from BatchRandom, and a loss over the pairs of the global batch


def distance(first: Path, second: Path, net: str = "net") -> float:
    """The largest difference of two runs' weights at the same step."""
    one, two = (load_file(folder / net / "diffusion_pytorch_model.safetensors") for folder in (first, second))
    return max(float((one[name] - two[name]).abs().max()) for name in one)


def wait(processes: list[Any]) -> list[int]:
    for process in processes:
        process.join(40)
    return [process.exitcode for process in processes]


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_batch(tmp_path: Path, start: Start) -> None:
    run_toy(tmp_path / "one", HARD, train_batch_size=4, use_ema=True, max_train_steps=30)
    run_toy(tmp_path / "half", HARD, train_batch_size=4, use_ema=True, max_train_steps=13)
    run_toy(tmp_path / "plain", {"noise": 0.0}, train_batch_size=4)
    (tmp_path / "resumed").mkdir()
    (tmp_path / "half" / "checkpoint-13").rename(tmp_path / "resumed" / "checkpoint-13")

    two = {"toy": HARD, "train_batch_size": 2, "use_ema": True, "max_train_steps": 30}
    accumulated = {"toy": {"noise": 0.0}, "train_batch_size": 1, "gradient_accumulation_steps": 2}
    runs = [
        {"output_dir": tmp_path / "two", **two},
        {"output_dir": tmp_path / "resumed", "resume_from_checkpoint": "latest", **two},
        {"output_dir": tmp_path / "accumulated", **accumulated},
    ]
    assert wait(start(runs, world_size=2)) == [0, 0]

    for run in ("two", "resumed"):
        assert distance(tmp_path / run / "checkpoint-30", tmp_path / "one" / "checkpoint-30") < 1e-6
        assert distance(tmp_path / run / "checkpoint-30", tmp_path / "one" / "checkpoint-30", "net_ema") < 1e-6
    assert distance(tmp_path / "accumulated", tmp_path / "plain") < 1e-6
    moved = distance(tmp_path / "two" / "checkpoint-30", tmp_path / "half")
    assert moved > 1e-2  # the runs compared did go somewhere
    logs = [(tmp_path / run / "log.jsonl").read_text().splitlines() for run in ("one", "two")]
    assert len(logs[0]) == len(logs[1]) == 3


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_with_one(tmp_path: Path, start: Start) -> None:
    assert wait(start([{"output_dir": tmp_path, "toy": HARD, "max_train_steps": 9}], world_size=2)) == [0, 0]
    run_toy(tmp_path, HARD, train_batch_size=4, resume_from_checkpoint="latest")
    run_toy(tmp_path / "one", HARD, train_batch_size=4)
    assert distance(tmp_path, tmp_path / "one") < 1e-6


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_after_the_same_step(tmp_path: Path, start: Start) -> None:
    account = tmp_path / "account"
    toy = {**HARD, "pause": 0.02, "account": str(account)}
    run = {"output_dir": tmp_path / "run", "toy": toy, "max_train_steps": 1000}
    processes = start([run], world_size=2)
    while not account.exists() or len(account.read_text().splitlines()) < 10:
        assert all(process.is_alive() for process in processes)
        time.sleep(0.01)
    os.kill(processes[1].pid, signal.SIGTERM)
    assert wait(processes) == [1, 1]
    [checkpoint] = (tmp_path / "run").glob("checkpoint-*")
    steps = int(checkpoint.name.removeprefix("checkpoint-"))
    assert len(account.read_text().splitlines()) == 2 * steps

    run_toy(tmp_path / "run", HARD, train_batch_size=4, max_train_steps=steps + 5, resume_from_checkpoint="latest")
    run_toy(tmp_path / "one", HARD, train_batch_size=4, max_train_steps=steps + 5)
    assert distance(tmp_path / "run", tmp_path / "one") < 1e-6


@pytest.mark.parametrize("toy", [{"noise": 0.0}])
def test_accumulated_batches_equal_one_large_batch(tmp_path: Path, toy: dict[str, Any]) -> None:
    whole, parts = ToyTask(**toy), ToyTask(**toy)
    run_toy(tmp_path / "whole", whole, train_batch_size=6)
    run_toy(tmp_path / "parts", parts, train_batch_size=2, gradient_accumulation_steps=3)
    assert distance(tmp_path / "whole", tmp_path / "parts") < 1e-6
    assert torch.equal(torch.tensor(whole.seen).flatten(), torch.tensor(parts.seen).flatten())
