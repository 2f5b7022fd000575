"""Train a latent diffusion model that draws MR slices of a text, or fine-tune one by a LoRA adapter on one's own scans.

    accelerate launch training/train_text_to_mr.py --config training/configs/text_to_mr_brain.yaml
    accelerate launch training/train_text_to_mr.py --config training/configs/text_to_mr_lora.yaml \\
        --dataset_name FOLDER --table TABLE.csv --output_dir runs/mine

Every line of the YAML file is also an option of the command line, which wins. `text_to_mr_paper.yaml` is the size of
El-Allaly et al. 2025. The folder holds scans; the table, a row for each, says file_name, subject, modality and, where
they are known, sex, age and label maps (`labels_file_name`, with `--labels_column labels`), whose regions the prompts
then name. The output folder opens with `DiffusionPipeline.from_pretrained`, or, with `--rank`, with
`pipe.load_lora_weights`; it holds `metrics.json` and images. `--card FACTS.yaml` also writes a whole repository with
its model card, which `--push_to_hub --hub_model_id me/name` publishes.
"""

from __future__ import annotations

from accelerate.utils import set_seed

from meddiffusers.datasets.captioned_config import CaptionedDataConfig
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.loop import train
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.engine.publishing import CardConfig, finish
from meddiffusers.training.tasks.text_to_mr.model import TextToMRConfig
from meddiffusers.training.tasks.text_to_mr.task import TextToMRTask


def main() -> None:
    """Train, evaluate, and write or publish the repository if asked to."""
    data, model, training, publishing = parse_config(CaptionedDataConfig, TextToMRConfig, TrainingConfig, CardConfig)
    facts = publishing.facts(training)
    set_seed(training.seed)  # the network's first weights
    task = TextToMRTask(data, model)
    finish(train(task, training), task.evaluate, data, model, training, facts)


if __name__ == "__main__":
    main()
