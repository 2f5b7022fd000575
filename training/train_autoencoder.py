"""Train the autoencoder of a text-to-MR model, on slices with one channel.

    accelerate launch training/train_autoencoder.py --config training/configs/autoencoder_brain.yaml
    accelerate launch training/train_autoencoder.py --config training/configs/autoencoder_brain.yaml \\
        --dataset_name FOLDER --spacing 1.0 --output_dir runs/mine

Every line of the YAML file is also an option of the command line, which overrides it. `autoencoder_paper.yaml` has the
size of El-Allaly et al. 2025: 256² pixels become 64². The output folder opens with `AutoencoderKL.from_pretrained`; its
`scaling_factor` is measured. It contains `metrics.json`, figures and `training_config.yaml`.
"""

from __future__ import annotations

from accelerate.utils import set_seed

from meddiffusers.datasets.captioned_config import CaptionedDataConfig
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.loop import train
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.engine.publishing import finish
from meddiffusers.training.engine.running import exclusive_output, run
from meddiffusers.training.tasks.autoencoder.captioned import CaptionedAutoencoderTask
from meddiffusers.training.tasks.autoencoder.model import AutoencoderConfig


def main() -> None:
    """Train and evaluate."""
    data, model, training = parse_config(CaptionedDataConfig, AutoencoderConfig, TrainingConfig)
    with exclusive_output(training.output_dir):
        set_seed(training.seed)  # of the initial weights
        task = CaptionedAutoencoderTask(data, model)
        finish(train(task, training), task.evaluate, data, model, training)


if __name__ == "__main__":
    run(main)
