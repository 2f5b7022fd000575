"""Train a small BERT that reads prompts, with a vocabulary of its own.

    accelerate launch training/train_prompt_encoder.py --config training/configs/prompt_encoder_brain.yaml

Every line of the YAML file is also an option of the command line, which wins. The output folder holds `text_encoder`
and `tokenizer`, which transformers opens, and `metrics.json`. With a GPU and time take an encoder that has read
medicine instead: `--text_encoder_name_or_path microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext` of
`train_text_to_mr.py`.
"""

from __future__ import annotations

from accelerate.utils import set_seed

from meddiffusers.datasets.captioned_config import CaptionedDataConfig
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.loop import train
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.engine.publishing import finish
from meddiffusers.training.tasks.text_to_mr.prompt_encoder import PromptEncoderConfig, PromptEncoderTask


def main() -> None:
    """Train, and evaluate."""
    data, model, training = parse_config(CaptionedDataConfig, PromptEncoderConfig, TrainingConfig)
    set_seed(training.seed)  # the network's first weights
    task = PromptEncoderTask(data, model)
    finish(train(task, training), task.evaluate, data, model, training)


if __name__ == "__main__":
    main()
