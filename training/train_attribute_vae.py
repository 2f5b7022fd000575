"""Train a VAE whose latent dimensions follow measured attributes (AR-VAE), or a plain VAE without attributes.

    accelerate launch training/train_attribute_vae.py --config training/configs/ar_vae_mnist.yaml

Every line of the YAML file is also an option of the command line, which overrides it. For your own images give
`--dataset_name FOLDER`, with a metadata.csv of file_name, subject and the attributes, or a data set on the Hub. The
output folder opens with `AttributeVAEPipeline.from_pretrained`. It contains `metrics.json`, figures and
`training_config.yaml`. `--card FACTS.yaml` also writes a whole repository with its model card; `--push_to_hub
--hub_model_id me/name` publishes it.
"""

from __future__ import annotations

from accelerate.utils import set_seed

from meddiffusers.datasets.attribute_config import AttributeDataConfig
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.loop import train
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.engine.publishing import CardConfig, finish
from meddiffusers.training.engine.running import exclusive_output, run
from meddiffusers.training.tasks.attribute_vae.model import AttributeVAEConfig
from meddiffusers.training.tasks.attribute_vae.task import AttributeVAETask


def main() -> None:
    """Train, evaluate, and write or publish the repository if requested."""
    data, model, training, publishing = parse_config(
        AttributeDataConfig, AttributeVAEConfig, TrainingConfig, CardConfig
    )
    facts = publishing.facts(training)
    with exclusive_output(training.output_dir):
        set_seed(training.seed)  # of the initial weights
        task = AttributeVAETask(data, model)
        finish(train(task, training), task.evaluate, data, model, training, facts)


if __name__ == "__main__":
    run(main)
