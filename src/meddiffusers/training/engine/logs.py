"""Logs losses, metrics and figures to files, trackers and the terminal.

`output_dir/log.jsonl` has one JSON object per line, each with its step, and `output_dir/validation/step-N/NAME.png` are
the figures. Both are written with and without trackers.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from meddiffusers.training.engine.task import Validation

if TYPE_CHECKING:
    from accelerate import Accelerator
    from PIL.Image import Image


class LossHistory:
    """The losses since the last logging. They stay on the device, so that a step does not wait for them."""

    def __init__(self) -> None:
        self._steps: list[list[dict[str, Tensor]]] = []

    def __len__(self) -> int:
        return len(self._steps)

    def begin_step(self) -> None:
        """Begin an optimiser step."""
        self._steps.append([])

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add the losses of a micro-step of the current step."""
        self._steps[-1].append({name: loss.detach() for name, loss in losses.items()})

    def collect(self, accelerator: Accelerator) -> dict[str, np.ndarray]:
        """Return the losses of each step, averaged over micro-steps and processes, and clear them.

        Every process must call this at the same step.
        """
        names = list(self._steps[0][0])
        table = torch.stack(
            [torch.stack([part[name] for part in step]).mean() for step in self._steps for name in names]
        )
        self._steps.clear()
        means = accelerator.reduce(table.float(), reduction="mean").cpu().numpy().reshape(-1, len(names))
        return dict(zip(names, means.T, strict=True))


class RunLog:
    """The log of a run. All processes have one, but only the main process writes."""

    def __init__(self, accelerator: Accelerator, folder: Path, *, first_step: int, last_step: int) -> None:
        self.accelerator, self.folder = accelerator, folder
        hidden = not accelerator.is_main_process
        self.bar = tqdm(
            initial=first_step, total=last_step, desc="Steps", disable=hidden, dynamic_ncols=True, mininterval=0.5
        )
        if accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            _forget_after(first_step, folder / "log.jsonl")

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Write metrics to the log file and the trackers."""
        if self.accelerator.is_main_process:
            with (self.folder / "log.jsonl").open("a") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
            self.accelerator.log(values, step=step)

    def training(self, step: int, values: dict[str, float]) -> None:
        """Write the training losses, and show the loss and the learning rate on the progress bar."""
        self.metrics(step, values)
        self.bar.set_postfix(loss=f"{values['loss']:.4g}", lr=f"{values['lr']:.3g}")

    def validation(self, step: int, result: Validation) -> None:
        """Write the metrics and figures of a validation."""
        self.metrics(step, {f"validation/{name}": value for name, value in result.metrics.items()})
        folder = self.folder / "validation" / f"step-{step}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in result.images.items():
            image.save(folder / f"{name}.png")
        for tracker in self.accelerator.trackers:
            _track_images(tracker, result.images, step)

    def close(self) -> None:
        """Close the progress bar and the trackers."""
        self.bar.close()
        for tracker in self.accelerator.trackers:
            tracker.finish()


def require_trackers(names: list[str]) -> None:
    """Raise ImportError, with the command that installs it, if a tracker is missing."""
    for name in names:
        if find_spec(name) is None:
            raise ImportError(
                f"report_to names {name}, which is not installed. Run `pip install {name}`, or give --report_to none: "
                "log.jsonl has the losses either way."
            )


def _track_images(tracker: Any, images: dict[str, Image], step: int) -> None:
    """Log images to a tracker; accelerate covers two of the three."""
    if tracker.name == "tensorboard":
        arrays = {name: np.asarray(image.convert("RGB"))[None] for name, image in images.items()}
        tracker.log_images(arrays, step=step, dataformats="NHWC")
    elif tracker.name == "wandb":
        tracker.log_images({name: [image] for name, image in images.items()}, step=step)
    elif tracker.name == "trackio":
        import trackio

        tracker.log({name: trackio.Image(image) for name, image in images.items()}, step=step)


def _step_of(line: str) -> int | None:
    """The step of a line of the log; None if the line is damaged."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = entry.get("step") if isinstance(entry, dict) else None
    return step if isinstance(step, int) else None


def _forget_after(step: int, file: Path) -> None:
    """Drop the lines after `step`, at which the run is resumed, and damaged lines, such as an incomplete last one."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    kept = [line for line in lines if (at := _step_of(line)) is not None and at <= step]
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text("".join(f"{line}\n" for line in kept))
    partial.replace(file)
