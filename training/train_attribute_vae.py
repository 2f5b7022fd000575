"""Train a VAE whose latent dimensions follow measured attributes (AR-VAE), or, without attributes, a plain VAE.

    accelerate launch training/train_attribute_vae.py --config training/configs/ar_vae_mnist.yaml

Every line of the YAML file is also an option of the command line, which wins. Own images: `--dataset_name FOLDER` (with
a metadata.csv of file_name and the attributes) or a data set of the Hub. The output folder opens with
`AttributeVAEPipeline.from_pretrained` and holds `metrics.json` and pictures; `--card FACTS.yaml` also writes a whole
repository with its model card, which `--push_to_hub --hub_model_id me/name` publishes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import set_seed

from meddiffusers.hub.card import Facts
from meddiffusers.hub.publish import publish, write_repository
from meddiffusers.training.attribute_vae_task import AttributeVAEConfig, AttributeVAETask
from meddiffusers.training.config import TrainingConfig
from meddiffusers.training.engine import train
from meddiffusers.training.parsing import parse_config


@dataclass
class CardConfig:
    """What becomes of the trained model."""

    card: str | None = field(default=None, metadata={"help": "YAML of facts (see model_cards/) for the model card."})


def main() -> None:
    """Train, evaluate, and write or publish the repository if asked to."""
    model, training, publishing = parse_config(AttributeVAEConfig, TrainingConfig, CardConfig)
    if training.push_to_hub and publishing.card is None:
        raise ValueError("push_to_hub is set but card is not; a published model needs a card: give --card FACTS.yaml.")
    facts = Facts.read(Path(publishing.card)) if publishing.card else None
    set_seed(training.seed)  # the network's first weights
    task = AttributeVAETask(model)
    result = train(task, training)
    if not PartialState().is_main_process:
        return
    report = task.evaluate(result.pipeline)
    report = replace(report, run={**report.run, "seed": training.seed, "training_minutes": result.seconds / 60})
    print(f"Figures are in '{report.save(result.output_dir)}', pictures beside them.")
    if facts is not None:
        repository = write_repository(result.pipeline, report, facts, result.output_dir / "repository")
        print(f"The repository is in '{repository}'.")
        if training.push_to_hub:
            print(publish(repository, training.hub_model_id, private=training.hub_private_repo))


if __name__ == "__main__":
    main()
