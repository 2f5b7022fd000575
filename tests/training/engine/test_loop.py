"""What one run does: steps, averages, precision, limits, logs, and what it refuses."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.training_utils import EMAModel
from helpers.toy_task import ToyNet, ToyTask, run_toy
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from meddiffusers.training.engine import logs, precision
from meddiffusers.training.engine.state import TrainingState


class Recording(ToyTask):
    """Keeps the weights as they were before each step."""

    def loss(self, modules, *arguments):
        self.weights = [*getattr(self, "weights", []), flat(modules["net"])]
        return super().loss(modules, *arguments)


def flat(net: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in net.parameters()])


def log_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_run_equals_the_same_loop_written_by_hand(tmp_path: Path) -> None:
    task = ToyTask(noise=0.0)
    result = run_toy(tmp_path, task, max_train_steps=15, max_grad_norm=0.5, adam_weight_decay=0.1)
    hand = ToyTask(noise=0.0)
    net, data = hand.modules["net"], hand.train_dataset
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.1)
    for indices in task.seen:
        loss = (net(data.x[indices]) - data.y[indices]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
    assert torch.equal(flat(result.modules["net"]), flat(net))
    assert result.step == 15 and not result.stopped_by_time


def test_the_average_is_the_weighted_sum_of_all_weights(tmp_path: Path) -> None:
    task = Recording()
    result = run_toy(tmp_path, task, max_train_steps=12, use_ema=True, ema_decay=0.4)
    final = ToyNet.from_pretrained(tmp_path / "checkpoint-12" / "net")
    weights = torch.stack([*task.weights[1:], flat(final)]).double()
    decays = np.array([0.0] + [min(0.4, n / (n + 9)) for n in range(2, 13)])
    shares = [(1 - decay) * decays[n + 1 :].prod() for n, decay in enumerate(decays)]
    assert sum(shares) == pytest.approx(1)
    expected = (torch.tensor(shares)[:, None] * weights).sum(dim=0).float()
    for net in (result.modules["net"], ToyNet.from_pretrained(tmp_path / "net")):
        torch.testing.assert_close(flat(net), expected, rtol=0, atol=1e-6)
    assert (flat(final) - expected).abs().max() > 1e-3


def test_validation_sees_the_average_and_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    class Checked(ToyTask):
        def validate(self, modules, step):
            assert not modules["net"].training and not torch.is_grad_enabled()
            self.shown = flat(modules["net"])
            torch.rand(5)
            return super().validate(modules, step)

    chance = {"dropout": 0.3, "jitter": 0.1}
    task = Checked(**chance)
    checked = run_toy(tmp_path / "checked", task, use_ema=True, validation_steps=7)
    assert torch.equal(task.shown, flat(checked.modules["net"]))
    plain = run_toy(tmp_path / "plain", chance, use_ema=True)
    assert torch.equal(flat(checked.modules["net"]), flat(plain.modules["net"]))
    images = sorted((tmp_path / "checked" / "validation").rglob("*"))
    assert [path.relative_to(tmp_path / "checked" / "validation").as_posix() for path in images] == [
        "step-14", "step-14/image.png", "step-20", "step-20/image.png", "step-7", "step-7/image.png",
    ]  # fmt: skip
    assert np.asarray(Image.open(images[1])).max() == 14
    assert [line["step"] for line in log_lines(tmp_path / "checked") if "validation/error" in line] == [7, 14, 20]


def test_chance_differs_between_steps_parts_and_runs(tmp_path: Path) -> None:
    class Sampling(ToyTask):
        def loss(self, modules, batch, random):
            numbers = float(random.randn(2, 1)[0]), float(torch.rand(1))  # noise, and what dropout would use
            self.numbers = [*getattr(self, "numbers", []), *numbers]
            return super().loss(modules, batch, random)

    runs = []
    for seed in (0, 1):
        task = Sampling()
        run_toy(tmp_path / str(seed), task, max_train_steps=6, gradient_accumulation_steps=2, seed=seed)
        runs += task.numbers
    assert len(runs) == len(set(runs)) == 2 * 6 * 2 * 2


@pytest.mark.slow
def test_bf16_computes_in_bf16_and_leaves_float32_networks(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda device: True)  # processors without it emulate it
    task, seen = ToyTask(noise=0.0), set()
    task.modules["net"].net[0].register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    result = run_toy(tmp_path, task, mixed_precision="bf16", max_train_steps=100)
    assert seen == {torch.bfloat16}
    x = task.train_dataset.x
    reloaded = ToyNet.from_pretrained(tmp_path / "net")
    assert torch.equal(result.modules["net"](x), reloaded(x))
    full = run_toy(tmp_path / "full", {"noise": 0.0}, max_train_steps=100)
    errors = [
        (net(x) - task.train_dataset.y).square().mean().item()
        for net in (ToyTask().modules["net"], reloaded, full.modules["net"])
    ]
    assert errors[1] < 0.7 * errors[0] and errors[1] == pytest.approx(errors[2], rel=0.1)


@pytest.mark.parametrize(("threads", "cores", "warned"), [("1", 4, 1), ("1", 1, 0), ("2", 4, 0)])
def test_it_warns_about_idle_cores(
    tmp_path: Path, monkeypatch: Any, caplog: Any, threads: str, cores: int, warned: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    run_toy(tmp_path, max_train_steps=1)
    assert caplog.text.count(f"This run uses one of {cores} cores") == warned


def test_a_step_that_overflows_in_fp16_is_skipped_and_the_scale_lowered() -> None:
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(net.weight)
    average = EMAModel(net.parameters(), foreach=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    state = TrainingState({"net": net}, {"net": average}, torch.optim.SGD(net.parameters(), lr=0.5), scaler)
    for slope, updated, weight, scale in [(float("inf"), False, 1.0, 32.0), (3.0, True, 0.0, 32.0)]:
        scaler.scale(slope * net.weight.sum()).backward()
        assert state.update(max_grad_norm=2.0) is updated
        assert net.weight.item() == pytest.approx(weight, abs=1e-6)  # 1 - 0.5 · 3, clipped to 2
        assert average.shadow_params[0].item() == pytest.approx(weight, abs=1e-6)
        assert scaler.get_scale() == scale and net.weight.grad is None
    assert state.updates == average.optimization_step == 1


def test_the_learning_rate_warms_up_and_falls_per_optimiser_step(tmp_path: Path) -> None:
    settings = {"lr_scheduler": "linear", "lr_warmup_steps": 4, "logging_steps": 1, "gradient_accumulation_steps": 2}
    run_toy(tmp_path, learning_rate=0.1, max_train_steps=12, **settings)
    expected = [0.1 * step / 4 if step <= 4 else 0.1 * (12 - step) / 8 for step in range(1, 13)]
    assert [line["lr"] for line in log_lines(tmp_path)] == pytest.approx(expected)


def test_losses_are_logged_as_means_since_the_last_time(tmp_path: Path) -> None:
    run_toy(tmp_path / "each", {"pairwise": True}, logging_steps=1)
    run_toy(tmp_path / "four", {"pairwise": True}, logging_steps=4)
    each, four = log_lines(tmp_path / "each"), log_lines(tmp_path / "four")
    assert [line["step"] for line in four] == [4, 8, 12, 16, 20]
    for name in ("loss", "pairs"):
        expected = np.reshape([line[name] for line in each], (5, 4)).mean(axis=1)
        np.testing.assert_allclose([line[name] for line in four], expected, rtol=1e-6)


@pytest.mark.slow
def test_workers_change_nothing(tmp_path: Path) -> None:
    chance = {"dropout": 0.3, "jitter": 0.1}
    alone = run_toy(tmp_path / "alone", chance)
    helped = run_toy(tmp_path / "helped", chance, dataloader_num_workers=2)
    assert torch.equal(flat(alone.modules["net"]), flat(helped.modules["net"]))


def test_epochs_are_counted_in_whole_steps(tmp_path: Path) -> None:
    result = run_toy(tmp_path, {"size": 41}, max_train_steps=None, num_train_epochs=3, gradient_accumulation_steps=3)
    assert result.step == 3 * (41 // 6)


@pytest.mark.slow
def test_the_time_limit_holds_over_resumptions(tmp_path: Path) -> None:
    slow = {"pause": 0.05}
    first = run_toy(tmp_path, slow, max_train_steps=1000, max_train_minutes=0.5 / 60)
    assert first.stopped_by_time and 1 <= first.step <= 10 and 0.5 <= first.seconds < 2
    settings = {"max_train_steps": 1000, "resume_from_checkpoint": "latest"}
    second = run_toy(tmp_path, slow, max_train_minutes=0.5 / 60, **settings)
    assert second.step == first.step
    third = run_toy(tmp_path, slow, max_train_minutes=1.0 / 60, **settings)
    assert 1 <= third.step - first.step <= 10 and third.seconds >= 1.0


class Diverging(ToyTask):
    def loss(self, modules, *arguments):
        losses = super().loss(modules, *arguments)
        return {"loss": losses["loss"] * (float("nan") if len(self.seen) == 7 else 1)}


class BadGradient(ToyTask):
    def loss(self, modules, *arguments):
        losses = super().loss(modules, *arguments)
        hidden = (0 * next(modules["net"].parameters())).sqrt().sum()  # 0, with a derivative of 0 · ∞
        return {"loss": losses["loss"] + (hidden if len(self.seen) == 10 else 0)}


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Diverging, r"The loss is nan at step 7\. Resume from '.*checkpoint-5' with a lower --learning_rate"),
        (BadGradient, r"Some weights are NaN or infinite after step 10\. Resume from '.*checkpoint-5'"),
    ],
)
def test_a_run_that_diverges_stops_before_it_spoils_a_checkpoint(
    tmp_path: Path, task: type[ToyTask], message: str
) -> None:
    with pytest.raises(FloatingPointError, match=message):
        run_toy(tmp_path, task(), checkpointing_steps=5, checkpoints_total_limit=1)
    assert [path.name for path in tmp_path.glob("*checkpoint*")] == ["checkpoint-5"]


@pytest.mark.slow
def test_trackers_receive_losses_metrics_and_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    run_toy(tmp_path, report_to="tensorboard,trackio", validation_steps=20, tracker_project_name="toy")
    losses, metrics = log_lines(tmp_path)[:2], log_lines(tmp_path)[2]

    board = EventAccumulator(str(tmp_path / "logs" / "toy"))
    board.Reload()
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [
        (line["step"], line["loss"]) for line in losses
    ]
    assert board.Scalars("validation/error")[0].value == pytest.approx(metrics["validation/error"])
    assert (board.Images("image")[0].width, board.Images("image")[0].height) == (6, 4)

    with sqlite3.connect(tmp_path / "trackio" / "toy.db") as database:
        rows = [json.loads(row) for (row,) in database.execute("SELECT metrics FROM metrics ORDER BY id")]
    assert [row["loss"] for row in rows if "loss" in row] == [line["loss"] for line in losses]
    assert [row["validation/error"] for row in rows if "validation/error" in row] == [metrics["validation/error"]]
    assert (tmp_path / "trackio" / "media" / rows[-1]["image"]["file_path"]).exists()


def test_a_missing_tracker_is_named_before_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"names wandb, which is not installed\. Run `pip install wandb`"):
        run_toy(tmp_path / "new", report_to="wandb")
    assert not (tmp_path / "new").exists()


def test_gradient_checkpointing_is_refused_by_a_network_without_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ToyNet does not support gradient checkpointing"):
        run_toy(tmp_path, gradient_checkpointing=True)


def test_a_failed_save_of_the_pipeline_leaves_the_earlier_one_and_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = flat(run_toy(tmp_path, max_train_steps=3).modules["net"])

    def no_space(self: Any, folder: Path) -> None:
        folder.mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("helpers.toy_task.ToyPipeline.save_pretrained", no_space)
    with pytest.raises(OSError, match="No space left"):
        run_toy(tmp_path, max_train_steps=5, resume_from_checkpoint="latest")
    monkeypatch.undo()
    assert torch.equal(flat(ToyNet.from_pretrained(tmp_path / "net")), before)
    result = run_toy(tmp_path, max_train_steps=5, resume_from_checkpoint="latest")
    assert torch.equal(flat(ToyNet.from_pretrained(tmp_path / "net")), flat(result.modules["net"]))
    assert not torch.equal(flat(result.modules["net"]), before)
