"""Train a latent diffusion model of slices, or fine-tune one with a LoRA adapter.

    accelerate launch training/train_slice_diffusion.py --config training/configs/slice_diffusion_masks.yaml

Every line of the YAML file is also an option of the command line, which overrides it. The model is conditioned on label
maps; with `--conditioning label` on whether a slice has any foreground; with `--conditioning none` it is unconditional.
`slice_diffusion_256.yaml` is LDM-256 of Rombach et al. 2022. The data are those of train_segmentation.py: phantoms,
BraTS, or a folder of images and masks. The output folder opens with `DiffusionPipeline.from_pretrained`, or, with
`--rank`, with `pipe.load_lora_weights`. It contains `metrics.json`, figures and `training_config.yaml`. `--card
FACTS.yaml` also writes a whole repository with its model card; `--push_to_hub --hub_model_id me/name` publishes it.
"""

from __future__ import annotations

from accelerate.utils import set_seed

from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.loop import train
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.engine.publishing import CardConfig, finish
from meddiffusers.training.engine.running import exclusive_output, run
from meddiffusers.training.tasks.latent_diffusion.model import LatentDiffusionConfig
from meddiffusers.training.tasks.latent_diffusion.slices import SliceDiffusionTask


def main() -> None:
    """Train, evaluate, and write or publish the repository if requested."""
    data, model, training, publishing = parse_config(
        LabelledDataConfig, LatentDiffusionConfig, TrainingConfig, CardConfig
    )
    facts = publishing.facts(training)
    with exclusive_output(training.output_dir):
        set_seed(training.seed)  # of the initial weights
        task = SliceDiffusionTask(data, model)
        finish(train(task, training), task.evaluate, data, model, training, facts)


if __name__ == "__main__":
    run(main)
