"""Settings of every training run, with the names and meanings of diffusers' training examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from meddiffusers.training.engine.precision import Precision, supported_precision
from meddiffusers.utils.settings import Range, check_fields, setting

TRACKERS = ("tensorboard", "trackio", "wandb")

_COUNT = Range(1)
_NOT_NEGATIVE = Range(0)
_POSITIVE = Range(0, open_low=True)
_FRACTION = Range(0, 1, open_high=True)


@dataclass
class TrainingConfig:
    """Settings of a training run.

    One optimiser step takes train_batch_size × gradient_accumulation_steps × (number of processes) samples. All steps
    are optimiser steps.

    Raises:
        ValueError: A field is wrong; the message lists all of them.
    """

    output_dir: str = setting("output", "Folder for pipeline, checkpoints and logs; shared by all nodes.")
    seed: int = setting(0, "Seed of all random numbers in the run and in the evaluation at its end.")

    train_batch_size: int = setting(16, "Batch size of one process.")
    gradient_accumulation_steps: int = setting(
        1, "Number of batches whose gradients are accumulated for one optimiser step."
    )
    num_train_epochs: int = setting(100, "Number of epochs; max_train_steps overrides it.")
    max_train_steps: int | None = setting(None, "Number of optimiser steps.")
    max_train_minutes: float | None = setting(
        None, "Maximum duration in minutes, including the time before a resumption."
    )
    dataloader_num_workers: int = setting(
        0, "Number of worker processes that read data; 0 reads in the training process."
    )

    learning_rate: float = setting(1e-4, "Learning rate after warm-up.")
    lr_scheduler: Literal[
        "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"
    ] = setting("constant", "Learning rate schedule.")
    lr_warmup_steps: int = setting(500, "Number of warm-up steps; the schedule constant has none.")
    adam_beta1: float = setting(0.9, "Decay rate of AdamW's first moment.")
    adam_beta2: float = setting(0.999, "Decay rate of AdamW's second moment.")
    adam_weight_decay: float = setting(1e-2, "Weight decay of AdamW.")
    adam_epsilon: float = setting(1e-8, "Epsilon of AdamW.")
    max_grad_norm: float = setting(1.0, "Maximum norm of the gradients, to which they are clipped.")

    mixed_precision: Precision = setting(
        "no",
        "Precision of the forward pass. bf16 is used where the device has instructions for it, else float32; "
        "fp16 needs a GPU.",
    )
    gradient_checkpointing: bool = setting(False, "Save memory by recomputing activations in the backward pass.")
    use_ema: bool = setting(False, "Keep an exponential moving average (EMA) of the weights, and save that.")
    ema_decay: float = setting(0.9999, "Maximum decay of the EMA; at step n it is at most n / (n + 9).")

    checkpointing_steps: int = setting(500, "Number of steps between checkpoints; one is written at the end, too.")
    checkpoints_total_limit: int | None = setting(
        None, "Number of checkpoints to keep, the newest ones; by default all."
    )
    resume_from_checkpoint: str | None = setting(
        None, "'latest', or the folder of a checkpoint. Without a checkpoint, 'latest' starts a new run."
    )

    validation_steps: int | None = setting(
        None, "Number of steps between validations, with one at the end; by default there is none."
    )
    logging_steps: int = setting(10, "Number of steps whose mean loss is logged.")
    report_to: str = setting("none", f"Trackers, separated by commas: {', '.join(TRACKERS)}; or none.")
    tracker_project_name: str = setting("meddiffusers", "Name of the project in the trackers.")

    push_to_hub: bool = setting(False, "Publish the trained pipeline on the Hub.")
    hub_model_id: str | None = setting(None, "Repository to publish to, as 'owner/name'.")
    hub_private_repo: bool = setting(False, "Publish to a private repository.")

    def __post_init__(self) -> None:
        check_fields(self, _RANGES)
        supported_precision(self.mixed_precision)  # refuses fp16 on a CPU before any data are prepared
        unknown = [name for name in self.trackers if name not in TRACKERS]
        if unknown:
            raise ValueError(
                f"report_to is {self.report_to!r}; expected none, or one or several of {', '.join(TRACKERS)}, "
                f"separated by commas. Remove {', '.join(unknown)}."
            )
        if self.push_to_hub and not self.hub_model_id:
            raise ValueError("push_to_hub is set but hub_model_id is not; give --hub_model_id owner/name.")

    @property
    def trackers(self) -> list[str]:
        """The trackers in `report_to`."""
        return [] if self.report_to == "none" else [name.strip() for name in self.report_to.split(",")]


_RANGES = {
    "seed": _NOT_NEGATIVE,
    "train_batch_size": _COUNT,
    "gradient_accumulation_steps": _COUNT,
    "num_train_epochs": _COUNT,
    "max_train_steps": _COUNT,
    "max_train_minutes": _POSITIVE,
    "dataloader_num_workers": _NOT_NEGATIVE,
    "learning_rate": _POSITIVE,
    "lr_warmup_steps": _NOT_NEGATIVE,
    "adam_beta1": _FRACTION,
    "adam_beta2": _FRACTION,
    "adam_weight_decay": _NOT_NEGATIVE,
    "adam_epsilon": _POSITIVE,
    "max_grad_norm": _POSITIVE,
    "ema_decay": _FRACTION,
    "checkpointing_steps": _COUNT,
    "checkpoints_total_limit": _COUNT,
    "validation_steps": _COUNT,
    "logging_steps": _COUNT,
}
