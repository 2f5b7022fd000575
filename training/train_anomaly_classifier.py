"""Train a classifier of noisy images that makes a diffusion model find anomalies.

    accelerate launch training/train_anomaly_classifier.py --config training/configs/anomaly_classifier_brain.yaml \\
        --pretrained_model_name_or_path runs/image-diffusion-brain

Every line of the YAML file is also an option of the command line, which wins. `anomaly_classifier_paper.yaml` is the configuration
of Wolleb et al., MICCAI 2022. Masks only say which images are healthy. The output folder holds diffusion model and
classifier as an `AnomalyDetectionPipeline`, which opens with `DiffusionPipeline.from_pretrained`, `metrics.json` and
images. `--card FACTS.yaml` also writes a whole repository with its model card, which `--push_to_hub --hub_model_id
me/name` publishes.
"""

from __future__ import annotations

from accelerate.utils import set_seed

from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.loop import train
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.engine.publishing import CardConfig, finish
from meddiffusers.training.tasks.image_diffusion.classifier import ClassifierConfig, ClassifierTask


def main() -> None:
    """Train, evaluate, and write or publish the repository if asked to."""
    data, model, training, publishing = parse_config(LabelledDataConfig, ClassifierConfig, TrainingConfig, CardConfig)
    facts = publishing.facts(training)
    set_seed(training.seed)  # the network's first weights
    task = ClassifierTask(data, model)
    finish(train(task, training), task.evaluate, data, model, training, facts)


if __name__ == "__main__":
    main()
