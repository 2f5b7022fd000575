"""Checkpoints on disk: whole or absent, and never fewer than before."""

from __future__ import annotations

import errno
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.toy_task import ToyTask, run_toy

from meddiffusers.training.engine.checkpoints import CheckpointError, Checkpoints


def fill(folder: Path) -> None:
    (folder / "content").write_text("whole")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_are_kept_in_numeric_order(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, limit=2)
    for step in (5, 90, 100, 1000):
        checkpoints.write(step, fill)
    assert names(tmp_path) == ["checkpoint-100", "checkpoint-1000"]
    assert checkpoints.find("latest") == tmp_path / "checkpoint-1000"
    assert Checkpoints(tmp_path / "absent").find("latest") is None


def test_the_old_one_goes_only_when_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path, limit=1)
    checkpoints.write(1, fill)
    there: list[list[str]] = []

    def note_and_fill(folder: Path) -> None:
        there.append(names(tmp_path))
        fill(folder)

    def killed_while_deleting(folder: Path) -> None:
        there.append(names(tmp_path))
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed_while_deleting)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.write(2, note_and_fill)
    monkeypatch.undo()
    assert there == [[".checkpoint-2.partial", "checkpoint-1"], [".checkpoint-1.partial", "checkpoint-2"]]
    assert checkpoints.find("latest") == tmp_path / "checkpoint-2"
    checkpoints.remove_partial()
    assert names(tmp_path) == ["checkpoint-2"]


def test_a_failed_write_leaves_the_earlier_ones_and_says_what_to_do(tmp_path: Path) -> None:
    def no_space(folder: Path) -> None:
        fill(folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    checkpoints = Checkpoints(tmp_path, limit=1)
    with pytest.raises(CheckpointError, match=r"checkpoint-4' could not be written: .*No space left.*no earlier"):
        checkpoints.write(4, no_space)
    checkpoints.write(5, fill)
    message = r"are free there\. The last good checkpoint is '.*checkpoint-5'; nothing was deleted\. Free some space"
    with pytest.raises(CheckpointError, match=message):
        checkpoints.write(9, no_space)
    assert names(tmp_path) == ["checkpoint-5"]


@pytest.fixture
def full_disk_later(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[ToyTask]]:
    """A task during whose seventh step the disk fills up: no file can grow beyond 700 bytes, by order of the kernel."""
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Filling(ToyTask):
        def loss(self, *arguments):
            if len(self.seen) == 6:
                resource.setrlimit(resource.RLIMIT_FSIZE, (700, hard))
            return super().loss(*arguments)

    yield Filling
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_disk_that_fills_up_during_a_run_loses_nothing(tmp_path: Path, full_disk_later: type[ToyTask]) -> None:
    with pytest.raises(CheckpointError, match=r"checkpoint-10' could not be written: .*last good .*checkpoint-5'"):
        run_toy(tmp_path, full_disk_later(), checkpointing_steps=5, checkpoints_total_limit=1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    assert [name for name in names(tmp_path) if "checkpoint" in name] == ["checkpoint-5"]
    resumed = run_toy(tmp_path, resume_from_checkpoint="latest")
    undisturbed = run_toy(tmp_path / "other")
    for name, weight in undisturbed.modules["net"].state_dict().items():
        assert torch.equal(resumed.modules["net"].state_dict()[name], weight)


def test_a_disk_too_small_is_found_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = ToyTask()
    weights = 4 * (4 * 8 + 8 + 8 * 2 + 2)
    one = weights * (1 + 1 + 2)  # weights, average, two moments
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3 * one - 1))
    with pytest.raises(CheckpointError, match=r"need about 2\.78 kB \(3 of 928 bytes\), and 2\.78 kB are free under"):
        run_toy(tmp_path / "new", task, use_ema=True, checkpoints_total_limit=2)
    assert not task.seen and not (tmp_path / "new").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3 * one))
    assert run_toy(tmp_path, task, use_ema=True, checkpoints_total_limit=2, max_train_steps=1).step == 1
