"""Train a latent diffusion model of volumes conditioned on covariates, or fine-tune one with a LoRA adapter.

    accelerate launch training/train_volume_diffusion.py --config training/configs/volume_diffusion_brain.yaml
    accelerate launch training/train_volume_diffusion.py --config training/configs/volume_diffusion_brain.yaml \\
        --dataset_name FOLDER --table TABLE.csv --modalities image --covariates age sex --output_dir runs/mine

Every line of the YAML file is also an option of the command line, which overrides it. Covariates are columns of the
table; their ranges are stored with the model. The output folder opens with `DiffusionPipeline.from_pretrained`, or,
with `--rank`, with `pipe.load_lora_weights`. It contains `metrics.json`, figures and `training_config.yaml`. `--card
FACTS.yaml` also writes a repository with its card; `--push_to_hub --hub_model_id me/name` publishes it.
"""

from __future__ import annotations

from accelerate.utils import set_seed

from meddiffusers.datasets.volume_config import VolumeDataConfig
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.loop import train
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.engine.publishing import CardConfig, finish
from meddiffusers.training.engine.running import exclusive_output, run
from meddiffusers.training.tasks.latent_diffusion.model import LatentDiffusionConfig
from meddiffusers.training.tasks.latent_diffusion.volumes import VolumeDiffusionTask


def main() -> None:
    """Train, evaluate, and write or publish the repository if requested."""
    data, model, training, publishing = parse_config(
        VolumeDataConfig, LatentDiffusionConfig, TrainingConfig, CardConfig
    )
    facts = publishing.facts(training)
    with exclusive_output(training.output_dir):
        set_seed(training.seed)  # of the initial weights
        task = VolumeDiffusionTask(data, model)
        finish(train(task, training), task.evaluate, data, model, training, facts)


if __name__ == "__main__":
    run(main)
