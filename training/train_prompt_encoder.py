"""Train a small BERT that encodes prompts, with its own vocabulary.

    accelerate launch training/train_prompt_encoder.py --config training/configs/prompt_encoder_brain.yaml

Every line of the YAML file is also an option of the command line, which overrides it. The output folder has the
subfolders `text_encoder` and `tokenizer`, which transformers opens. It contains `metrics.json`, figures and
`training_config.yaml`. With a GPU and more time, use an encoder that was trained on medical texts instead: give
`train_text_to_mr.py` the option `--text_encoder_name_or_path
microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext`.
"""

from __future__ import annotations

from accelerate.utils import set_seed

from meddiffusers.datasets.captioned_config import CaptionedDataConfig
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.loop import train
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.engine.publishing import finish
from meddiffusers.training.engine.running import exclusive_output, run
from meddiffusers.training.tasks.text_to_mr.prompt_encoder import PromptEncoderConfig, PromptEncoderTask


def main() -> None:
    """Train and evaluate."""
    data, model, training = parse_config(CaptionedDataConfig, PromptEncoderConfig, TrainingConfig)
    with exclusive_output(training.output_dir):
        set_seed(training.seed)  # of the initial weights
        task = PromptEncoderTask(data, model)
        finish(train(task, training), task.evaluate, data, model, training)


if __name__ == "__main__":
    run(main)
