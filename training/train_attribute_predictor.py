"""Train the predictor of slice attributes (regions, modality, slice, age, sex) that evaluates text-to-MR models.

    accelerate launch training/train_attribute_predictor.py --config training/configs/attribute_predictor_brain.yaml

Every line of the YAML file is also an option of the command line, which overrides it. The output folder opens with
`SliceAttributePredictor.from_pretrained`. It contains `metrics.json`, figures and `training_config.yaml`.
"""

from __future__ import annotations

from accelerate.utils import set_seed

from meddiffusers.datasets.captioned_config import CaptionedDataConfig
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.loop import train
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.engine.publishing import finish
from meddiffusers.training.engine.running import exclusive_output, run
from meddiffusers.training.tasks.text_to_mr.attribute_predictor import AttributePredictorConfig, AttributePredictorTask


def main() -> None:
    """Train and evaluate."""
    data, model, training = parse_config(CaptionedDataConfig, AttributePredictorConfig, TrainingConfig)
    with exclusive_output(training.output_dir):
        set_seed(training.seed)  # of the initial weights
        task = AttributePredictorTask(data, model)
        finish(train(task, training), task.evaluate, data, model, training)


if __name__ == "__main__":
    run(main)
