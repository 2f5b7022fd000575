"""After training: metrics and figures, the record of the settings, and a repository with its model card."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState

from meddiffusers.evaluation.report import Report
from meddiffusers.hub.card import Facts
from meddiffusers.hub.checks import ADAPTER
from meddiffusers.hub.publish import publish, write_adapter, write_repository
from meddiffusers.hub.training_config import TrainingRecord
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.loop import TrainingResult
from meddiffusers.utils.settings import setting


@dataclass
class CardConfig:
    """Settings of the model card."""

    card: str | None = setting(
        None, "YAML file of facts for the model card (see model_cards/); with it, a whole repository is written."
    )

    def facts(self, training: TrainingConfig) -> Facts | None:
        """The facts, read before training.

        Raises:
            ValueError: The model is to be published, but there are no facts.
        """
        if training.push_to_hub and self.card is None:
            raise ValueError(
                "push_to_hub is set but card is not; a published model needs a card: give --card FACTS.yaml."
            )
        return Facts.read(Path(self.card)) if self.card else None


def finish(
    result: TrainingResult,
    evaluate: Callable[[Any, int], Report],
    data: Any,
    model: Any,
    training: TrainingConfig,
    facts: Facts | None = None,
) -> None:
    """Evaluate the pipeline, record the settings, and write or publish the repository if there are facts.

    Only the main process does this. A trained adapter is published alone if the facts name its `base_model`; otherwise
    beside the whole pipeline, with the adapter fused into its weights.

    Args:
        result: What `train` returned.
        evaluate: Called with the pipeline and the seed of the run.
        data, model, training: The configuration dataclasses, for `training_config.yaml`.
        facts: The facts of the model card, if a repository is to be written.
    """
    if not PartialState().is_main_process:
        return
    record = TrainingRecord.of(data, model, training)
    record.save(result.output_dir)
    report = evaluate(result.pipeline, training.seed)
    report = replace(report, run={**report.run, "training_minutes": result.seconds / 60})
    print(f"Metrics are in '{report.save(result.output_dir)}', figures beside them.")
    if facts is None:
        return
    repository = _write(result, report, facts, record)
    print(f"The repository is in '{repository}'.")
    if training.push_to_hub and training.hub_model_id:
        print(publish(repository, training.hub_model_id, private=training.hub_private_repo))


def _write(result: TrainingResult, report: Report, facts: Facts, record: TrainingRecord) -> Path:
    adapter, folder = result.output_dir / ADAPTER, result.output_dir / "repository"
    if not adapter.is_file():
        return write_repository(result.pipeline, report, facts, folder, record)
    if facts.base_model:
        return write_adapter(adapter, report, facts, folder, record)
    result.pipeline.fuse_lora()
    result.pipeline.unload_lora_weights()
    write_repository(result.pipeline, report, facts, folder, record)
    shutil.copyfile(adapter, folder / ADAPTER)
    return folder
