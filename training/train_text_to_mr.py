"""Train a latent diffusion model that generates MR slices from text, or fine-tune one with a LoRA adapter.

    accelerate launch training/train_text_to_mr.py --config training/configs/text_to_mr_brain.yaml
    accelerate launch training/train_text_to_mr.py --config training/configs/text_to_mr_lora.yaml \\
        --dataset_name FOLDER --table TABLE.csv --output_dir runs/mine

Every line of the YAML file is also an option of the command line, which overrides it. `text_to_mr_paper.yaml` has the
size of El-Allaly et al. 2025. The folder holds scans. The table has a row for each scan with file_name, subject,
modality and, where known, sex, age and a label map (`labels_file_name`, with `--labels_column labels`), whose regions
the prompts then mention. The output folder opens with `DiffusionPipeline.from_pretrained`, or, with `--rank`, with
`pipe.load_lora_weights`. It contains `metrics.json`, figures and `training_config.yaml`. `--card FACTS.yaml` also
writes a whole repository with its model card; `--push_to_hub --hub_model_id me/name` publishes it.
"""

from __future__ import annotations

from accelerate.utils import set_seed

from meddiffusers.datasets.captioned_config import CaptionedDataConfig
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.loop import train
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.engine.publishing import CardConfig, finish
from meddiffusers.training.engine.running import exclusive_output, run
from meddiffusers.training.tasks.text_to_mr.model import TextToMRConfig
from meddiffusers.training.tasks.text_to_mr.task import TextToMRTask


def main() -> None:
    """Train, evaluate, and write or publish the repository if requested."""
    data, model, training, publishing = parse_config(CaptionedDataConfig, TextToMRConfig, TrainingConfig, CardConfig)
    facts = publishing.facts(training)
    with exclusive_output(training.output_dir):
        set_seed(training.seed)  # of the initial weights
        task = TextToMRTask(data, model)
        finish(train(task, training), task.evaluate, data, model, training, facts)


if __name__ == "__main__":
    run(main)
