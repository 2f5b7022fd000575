"""Train a diffusion model that generates images, or fine-tune one with a LoRA adapter on your own images.

    accelerate launch training/train_image_diffusion.py --config training/configs/image_diffusion_brain.yaml
    accelerate launch training/train_image_diffusion.py --config training/configs/image_diffusion_brain.yaml \\
        --dataset_name FOLDER --pretrained_model_name_or_path REPOSITORY --rank 8 --output_dir runs/mine

Every line of the YAML file is also an option, which overrides it. `image_diffusion_paper.yaml` is that of Wolleb et
al., MICCAI 2022. Masks tell which images are healthy; `--label_dropout` conditions the network on it. The output folder
opens with `DiffusionPipeline.from_pretrained`, or, with `--rank`, with `pipe.load_lora_weights`. It contains
`metrics.json`, figures and `training_config.yaml`. `--card FACTS.yaml` also writes a repository with its card;
`--push_to_hub --hub_model_id me/name` publishes it.
"""

from __future__ import annotations

from accelerate.utils import set_seed

from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.loop import train
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.engine.publishing import CardConfig, finish
from meddiffusers.training.engine.running import exclusive_output, run
from meddiffusers.training.tasks.image_diffusion.model import ImageDiffusionConfig
from meddiffusers.training.tasks.image_diffusion.task import ImageDiffusionTask


def main() -> None:
    """Train, evaluate, and write or publish the repository if requested."""
    data, model, training, publishing = parse_config(
        LabelledDataConfig, ImageDiffusionConfig, TrainingConfig, CardConfig
    )
    facts = publishing.facts(training)
    with exclusive_output(training.output_dir):
        set_seed(training.seed)  # of the initial weights
        task = ImageDiffusionTask(data, model)
        finish(train(task, training), task.evaluate, data, model, training, facts)


if __name__ == "__main__":
    run(main)
