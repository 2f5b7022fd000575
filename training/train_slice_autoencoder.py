"""Train the autoencoder of a latent diffusion model of slices, which may have several modalities.

    accelerate launch training/train_slice_autoencoder.py --config training/configs/slice_autoencoder_brain.yaml

Every line of the YAML file is also an option of the command line, which overrides it. The data are those of
train_segmentation.py: phantoms, BraTS, or a folder of images. The output folder opens with
`AutoencoderKL.from_pretrained`, or, where `patch_size` is above 1, with `MonaiAutoencoderKL.from_pretrained`; its
`scaling_factor` is measured. It contains `metrics.json`, figures and `training_config.yaml`.
"""

from __future__ import annotations

from accelerate.utils import set_seed

from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.loop import train
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.engine.publishing import finish
from meddiffusers.training.engine.running import exclusive_output, run
from meddiffusers.training.tasks.autoencoder.model import AutoencoderConfig
from meddiffusers.training.tasks.autoencoder.slices import SliceAutoencoderTask


def main() -> None:
    """Train and evaluate."""
    data, model, training = parse_config(LabelledDataConfig, AutoencoderConfig, TrainingConfig)
    with exclusive_output(training.output_dir):
        set_seed(training.seed)  # of the initial weights
        task = SliceAutoencoderTask(data, model)
        finish(train(task, training), task.evaluate, data, model, training)


if __name__ == "__main__":
    run(main)
