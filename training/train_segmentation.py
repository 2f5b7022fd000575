"""Train a diffusion model that segments images, or fine-tune one with a LoRA adapter on a few scans of your own.

    accelerate launch training/train_segmentation.py --config training/configs/segmentation_brain.yaml
    accelerate launch training/train_segmentation.py --config training/configs/segmentation_lora.yaml \\
        --train_data_dir FOLDER --pretrained_model_name_or_path REPOSITORY --rank 8 --output_dir runs/mine

Every line of the YAML file is also an option of the command line, which overrides it. `segmentation_paper.yaml` is the
configuration of Wolleb et al. 2022. The output folder opens with `DiffusionPipeline.from_pretrained`, or, with
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
from meddiffusers.training.tasks.segmentation.model import SegmentationModelConfig
from meddiffusers.training.tasks.segmentation.task import SegmentationTask


def main() -> None:
    """Train, evaluate, and write or publish the repository if requested."""
    data, model, training, publishing = parse_config(
        LabelledDataConfig, SegmentationModelConfig, TrainingConfig, CardConfig
    )
    facts = publishing.facts(training)
    with exclusive_output(training.output_dir):
        set_seed(training.seed)  # of the initial weights
        task = SegmentationTask(data, model)
        finish(train(task, training), task.evaluate, data, model, training, facts)


if __name__ == "__main__":
    run(main)
