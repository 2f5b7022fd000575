"""A run that is interrupted and resumed ends where an uninterrupted one does."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from helpers.toy_task import Start, ToyTask, run_toy
from safetensors.torch import load_file
from torch import Tensor

CHANCE = {"dropout": 0.5, "jitter": 0.1}  # dropout, noise and augmentation: all that could go another way
SETTINGS = {"max_train_steps": 40, "checkpointing_steps": 5, "checkpoints_total_limit": 2, "use_ema": True}


def flattened(checkpoint: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint: weights, EMA, and both moments and the count of AdamW."""
    tensors = {
        f"{folder}.{name}": tensor
        for folder in ("net", "net_ema")
        for name, tensor in load_file(checkpoint / folder / "diffusion_pytorch_model.safetensors").items()
    }
    moments = torch.load(checkpoint / "optimizer.pt", weights_only=True)["moments"]
    return tensors | {f"adam.{index}.{key}": value for index, one in moments.items() for key, value in one.items()}


def read_lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.slow
def test_a_run_killed_three_times_at_random_moments_ends_bit_for_bit_as_an_undisturbed_one(
    tmp_path: Path, start: Start
) -> None:
    whole = ToyTask(**CHANCE)
    run_toy(tmp_path / "whole", whole, lr_scheduler="cosine", **SETTINGS)
    moments = random.Random(5)
    resumed_at = 0
    for attempt in range(3):
        account = tmp_path / f"account-{attempt}"
        toy = {**CHANCE, "pause": 0.02, "account": str(account)}
        settings = {**SETTINGS, "lr_scheduler": "cosine", "resume_from_checkpoint": "latest"}
        [process] = start([{"output_dir": tmp_path / "killed", "toy": toy, **settings}])
        wanted = moments.randint(6, 11)
        while len(read_lines(account)) < wanted:
            assert process.is_alive(), "the run ended before it could be killed"
            time.sleep(0.002)
        time.sleep(moments.random() * 0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        seen = [json.loads(line) for line in read_lines(account)]
        assert seen == whole.seen[resumed_at : resumed_at + len(seen)]
        resumed_at = max(int(path.name[11:]) for path in (tmp_path / "killed").glob("checkpoint-*"))
    assert 15 <= resumed_at < 40

    last = ToyTask(**CHANCE)
    run_toy(tmp_path / "killed", last, lr_scheduler="cosine", resume_from_checkpoint="latest", **SETTINGS)

    assert last.seen == whole.seen[resumed_at:]
    resumed, undisturbed = (flattened(tmp_path / name / "checkpoint-40") for name in ("killed", "whole"))
    assert resumed.keys() == undisturbed.keys()
    assert all(torch.equal(resumed[name], undisturbed[name]) for name in undisturbed)
    logs = [read_lines(tmp_path / name / "log.jsonl") for name in ("killed", "whole")]
    timeless = [[{**json.loads(line), "seconds": 0} for line in lines] for lines in logs]
    assert timeless[0] == timeless[1]
    assert timeless[0][-1]["step"] == 40 and timeless[0][-1]["epoch"] == 2.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_completes_the_step_saves_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    class Interrupted(ToyTask):
        def loss(self, *arguments):
            if len(self.seen) == 7:
                os.kill(os.getpid(), number)
            return super().loss(*arguments)

    before = signal.getsignal(number)
    with pytest.raises(SystemExit, match=rf"Stopped by {number.name} after step 8.*--resume_from_checkpoint latest"):
        run_toy(tmp_path / "stopped", Interrupted(**CHANCE))
    assert signal.getsignal(number) == before
    assert not (tmp_path / "stopped" / "model_index.json").exists()

    run_toy(tmp_path / "stopped", CHANCE, resume_from_checkpoint="latest")
    result = run_toy(tmp_path / "whole", CHANCE)
    resumed = load_file(tmp_path / "stopped" / "net" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(resumed[name], tensor) for name, tensor in result.modules["net"].state_dict().items())


def test_the_settings_of_the_resumed_run_hold(tmp_path: Path) -> None:
    run_toy(tmp_path, max_train_steps=4, learning_rate=1e-2)
    run_toy(tmp_path, max_train_steps=5, learning_rate=1e-30, adam_weight_decay=0.0, resume_from_checkpoint="latest")
    before, after = (
        load_file(tmp_path / f"checkpoint-{step}" / "net" / "diffusion_pytorch_model.safetensors") for step in (4, 5)
    )
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert json.loads(read_lines(tmp_path / "log.jsonl")[-1])["lr"] == 1e-30


def test_another_batch_size_goes_on_at_the_same_sample(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second, third = ToyTask(), ToyTask(), ToyTask()
    run_toy(tmp_path, first, max_train_steps=6)  # samples 0 to 11 of an epoch of 40
    run_toy(tmp_path, second, max_train_steps=9, train_batch_size=4, resume_from_checkpoint="latest")  # 12 to 23
    assert "read twice" not in caplog.text
    flat = [index for batch in first.seen + second.seen for index in batch]
    assert len(set(flat)) == len(flat) == 24

    run_toy(tmp_path, third, max_train_steps=10, train_batch_size=10, resume_from_checkpoint="latest")  # 20 to 29
    assert "some samples of this epoch may be read twice" in caplog.text
    assert third.seen[0][:4] == flat[20:]


def test_the_epochs_left_are_counted_in_data(tmp_path: Path) -> None:
    run_toy(tmp_path, max_train_steps=10)  # half of an epoch of 20 steps
    result = run_toy(
        tmp_path, max_train_steps=None, num_train_epochs=2, train_batch_size=4, resume_from_checkpoint="latest"
    )
    assert result.step == 10 + 15


def test_an_average_that_the_checkpoint_lacks_begins_with_its_weights(tmp_path: Path) -> None:
    result = run_toy(tmp_path, max_train_steps=4)
    again = run_toy(tmp_path, max_train_steps=4, use_ema=True, resume_from_checkpoint="latest")
    for old, new in zip(result.modules["net"].parameters(), again.modules["net"].parameters(), strict=True):
        assert torch.equal(old, new)


def test_checkpoints_of_another_run_are_not_mixed_with_this_one(tmp_path: Path) -> None:
    run_toy(tmp_path, max_train_steps=8, checkpointing_steps=4)
    with pytest.raises(RuntimeError, match=r"holds checkpoint-4, checkpoint-8 of an earlier run.*start anew"):
        run_toy(tmp_path)
    with pytest.raises(RuntimeError, match=r"holds checkpoint-8 of an earlier run.*start from checkpoint-4"):
        run_toy(tmp_path, resume_from_checkpoint="checkpoint-4")
    with pytest.raises(RuntimeError, match=r"There is no checkpoint 'checkpoint-5'.*checkpoint-4, checkpoint-8"):
        run_toy(tmp_path, resume_from_checkpoint="checkpoint-5")
    elsewhere = run_toy(tmp_path / "other", max_train_steps=9, resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert elsewhere.step == 9


@pytest.mark.parametrize(
    "file", ["optimizer.pt", "trainer_state.json", "net/diffusion_pytorch_model.safetensors", "net_ema"]
)
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, file: str, damage: str) -> None:
    run_toy(tmp_path, max_train_steps=3, use_ema=True)
    path = tmp_path / "checkpoint-3" / file
    path = path / "diffusion_pytorch_model.safetensors" if path.is_dir() else path
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]) if damage == "cut" else path.unlink()
    with pytest.raises(RuntimeError, match=rf"{path}' cannot be read: .*resume from an earlier one"):
        run_toy(tmp_path, use_ema=True, resume_from_checkpoint="latest")


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self):
            return Path.touch, (tmp_path / "harmed",)

    run_toy(tmp_path, max_train_steps=3)
    torch.save({"moments": Harm()}, tmp_path / "checkpoint-3" / "optimizer.pt")
    with pytest.raises(RuntimeError, match=r"optimizer\.pt' cannot be read: Weights only load failed"):
        run_toy(tmp_path, resume_from_checkpoint="latest")
    assert not (tmp_path / "harmed").exists()


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    run_toy(tmp_path, max_train_steps=3)
    other = ToyTask()
    other.modules["net"].net[3] = torch.nn.Linear(8, 3)
    with pytest.raises(RuntimeError, match=r"safetensors' cannot be read: .*was made for another network"):
        run_toy(tmp_path, other, resume_from_checkpoint="latest")
