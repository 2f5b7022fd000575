"""Train a latent diffusion model that draws slices of a label map, or fine-tune one by a LoRA adapter.

    accelerate launch training/train_mask_diffusion.py --config training/configs/mask_diffusion_brain.yaml

Every line of the YAML file is also an option of the command line, which wins. Data are those of train_segmentation.py:
phantoms, BraTS 2020, or a folder of images and masks. The output folder opens with `DiffusionPipeline.from_pretrained`,
or, with `--rank`, with `pipe.load_lora_weights`; it holds `metrics.json` and pictures. `--card FACTS.yaml` also writes
a whole repository with its model card, which `--push_to_hub --hub_model_id me/name` publishes.
"""

from __future__ import annotations

from accelerate.utils import set_seed

from meddiffusers.training.config import TrainingConfig
from meddiffusers.training.engine import train
from meddiffusers.training.latent_diffusion_model import LatentDiffusionConfig
from meddiffusers.training.mask_diffusion_task import MaskDiffusionTask
from meddiffusers.training.parsing import parse_config
from meddiffusers.training.publishing import CardConfig, finish
from meddiffusers.training.segmentation_data import SegmentationDataConfig


def main() -> None:
    """Train, evaluate, and write or publish the repository if asked to."""
    data, model, training, publishing = parse_config(
        SegmentationDataConfig, LatentDiffusionConfig, TrainingConfig, CardConfig
    )
    facts = publishing.facts(training)
    set_seed(training.seed)  # the network's first weights
    task = MaskDiffusionTask(data, model)
    finish(train(task, training), task.evaluate, training, facts)


if __name__ == "__main__":
    main()
