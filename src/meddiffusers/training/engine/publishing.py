"""What becomes of a trained pipeline: metrics, images, a repository with its model card, the Hub."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState

from meddiffusers.evaluation.report import Report
from meddiffusers.hub.card import Facts
from meddiffusers.hub.checks import ADAPTER
from meddiffusers.hub.publish import publish, write_adapter, write_repository
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.loop import TrainingResult


@dataclass
class CardConfig:
    """What becomes of the trained model."""

    card: str | None = field(default=None, metadata={"help": "YAML of facts (see model_cards/) for the model card."})

    def facts(self, training: TrainingConfig) -> Facts | None:
        """The facts, read before any work; ValueError where the model is to be published and there are none."""
        if training.push_to_hub and self.card is None:
            raise ValueError(
                "push_to_hub is set but card is not; a published model needs a card: give --card FACTS.yaml."
            )
        return Facts.read(Path(self.card)) if self.card else None


def finish(
    result: TrainingResult, evaluate: Callable[[Any], Report], training: TrainingConfig, facts: Facts | None
) -> None:
    """Evaluates the pipeline on the main process, and writes or publishes the repository if there are facts.

    Where an adapter was trained, the repository holds it alone, if the facts name its `base_model`; else beside the
    whole pipeline with the adapter fused into its weights.
    """
    if not PartialState().is_main_process:
        return
    report = evaluate(result.pipeline)
    report = replace(report, run={**report.run, "seed": training.seed, "training_minutes": result.seconds / 60})
    print(f"Metrics are in '{report.save(result.output_dir)}', images beside them.")
    if facts is None:
        return
    repository = _written(result, report, facts)
    print(f"The repository is in '{repository}'.")
    if training.push_to_hub and training.hub_model_id:
        print(publish(repository, training.hub_model_id, private=training.hub_private_repo))


def _written(result: TrainingResult, report: Report, facts: Facts) -> Path:
    adapter, folder = result.output_dir / ADAPTER, result.output_dir / "repository"
    if not adapter.is_file():
        return write_repository(result.pipeline, report, facts, folder)
    if facts.base_model:
        return write_adapter(adapter, report, facts, folder)
    result.pipeline.fuse_lora()
    result.pipeline.unload_lora_weights()
    write_repository(result.pipeline, report, facts, folder)
    shutil.copyfile(adapter, folder / ADAPTER)
    return folder
