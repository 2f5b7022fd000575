"""Train the autoencoder of a latent diffusion model of volumes.

    accelerate launch training/train_volume_autoencoder.py --config training/configs/volume_autoencoder_brain.yaml
    accelerate launch training/train_volume_autoencoder.py --config training/configs/volume_autoencoder_brain.yaml \\
        --dataset_name FOLDER --table TABLE.csv --modalities image --covariates age sex --output_dir runs/mine

Every line of the YAML file is also an option of the command line, which overrides it. The output folder opens with
`MonaiAutoencoderKL.from_pretrained`; its `scaling_factor` is measured. It contains `metrics.json`, figures and
`training_config.yaml`.
"""

from __future__ import annotations

from accelerate.utils import set_seed

from meddiffusers.datasets.volume_config import VolumeDataConfig
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.loop import train
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.engine.publishing import finish
from meddiffusers.training.engine.running import exclusive_output, run
from meddiffusers.training.tasks.autoencoder.model import AutoencoderConfig
from meddiffusers.training.tasks.autoencoder.volumes import VolumeAutoencoderTask


def main() -> None:
    """Train and evaluate."""
    data, model, training = parse_config(VolumeDataConfig, AutoencoderConfig, TrainingConfig)
    with exclusive_output(training.output_dir):
        set_seed(training.seed)  # of the initial weights
        task = VolumeAutoencoderTask(data, model)
        finish(train(task, training), task.evaluate, data, model, training)


if __name__ == "__main__":
    run(main)
