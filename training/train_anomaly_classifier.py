"""Train a classifier of noisy images that guides a diffusion model, for anomaly detection.

    accelerate launch training/train_anomaly_classifier.py --config training/configs/anomaly_classifier_brain.yaml \\
        --pretrained_model_name_or_path runs/image-diffusion-brain

Every line of the YAML file is also an option of the command line, which overrides it. `anomaly_classifier_paper.yaml`
is the configuration of Wolleb et al., MICCAI 2022. The masks only tell which images are healthy. The output folder
holds the diffusion model and the classifier as an `AnomalyDetectionPipeline`, which opens with
`DiffusionPipeline.from_pretrained`. It contains `metrics.json`, figures and `training_config.yaml`. `--card FACTS.yaml`
also writes a whole repository with its model card; `--push_to_hub --hub_model_id me/name` publishes it.
"""

from __future__ import annotations

from accelerate.utils import set_seed

from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.loop import train
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.engine.publishing import CardConfig, finish
from meddiffusers.training.engine.running import exclusive_output, run
from meddiffusers.training.tasks.image_diffusion.classifier import ClassifierConfig, ClassifierTask


def main() -> None:
    """Train, evaluate, and write or publish the repository if requested."""
    data, model, training, publishing = parse_config(LabelledDataConfig, ClassifierConfig, TrainingConfig, CardConfig)
    facts = publishing.facts(training)
    with exclusive_output(training.output_dir):
        set_seed(training.seed)  # of the initial weights
        task = ClassifierTask(data, model)
        finish(train(task, training), task.evaluate, data, model, training, facts)


if __name__ == "__main__":
    run(main)
