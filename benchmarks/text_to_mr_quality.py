"""Quality of the shipped model on prompts of held-out phantoms: fidelity, memorization and prompt adherence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import torch

from meddiffusers import SliceAttributePredictor, TextToMRPipeline
from meddiffusers.data.prompts import write_prompt
from meddiffusers.datasets.captioned_config import CaptionedDataConfig, load_captioned_data
from meddiffusers.evaluation.results import Bar
from meddiffusers.evaluation.text_to_mr.prompt_adherence import (
    MEDIAN,
    evaluate_prompt_adherence,
    predict_attributes,
)
from meddiffusers.evaluation.text_to_mr.report import evaluate_text_to_mr
from meddiffusers.evaluation.text_to_mr.run import generate_from_prompts, prompts_of, targets_of
from meddiffusers.hub.load import load
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.tasks.text_to_mr.model import TextToMRConfig
from meddiffusers.utils.seeds import sample_generators

CONFIG, PREDICTOR = "training/configs/text_to_mr_brain.yaml", Path("examples/checkpoints/attribute-predictor-brain")
VENTRICLES_R = "volume_r_lateral_ventricles"
DATASET, COUNT, FOLDER = "phantom, held out", 144, Path("benchmarks/results/text_to_mr")


def quality(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """The bars; the report is saved to a folder beside the results."""
    pipeline: Any = load(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    data = splits_of_config()
    rows = data["test"].select(range(COUNT))
    report = evaluate_text_to_mr(
        pipeline, predictor(), rows, data["train"], dataset=DATASET, seed=seed, num_inference_steps=20
    )
    report.save(FOLDER)
    value = report.value
    alone, beside = _padded(pipeline, rows, seed)
    bars = [
        Bar("text-to-MR: modality", value("modality_accuracy"), ">=", 0.98),
        Bar("text-to-MR: r of target and predicted volume, lateral ventricles", value(VENTRICLES_R), ">=", 0.9),
        Bar("text-to-MR: the same, median of the regions over 200 mm³", value(MEDIAN), ">=", 0.7),
        Bar("text-to-MR: swapped modality, accuracy", value("swapped_modality_accuracy"), ">=", 0.98),
        Bar("text-to-MR: swapped modality, Dice of the anatomy", value("swapped_dice"), ">=", 0.8),
        Bar("text-to-MR: an image alone and beside longer prompts", float((alone - beside).abs().max()), "<=", 1e-4),
    ]
    metrics = {metric.key: [metric.value, metric.low, metric.high] for metric in report.metrics}
    facts = {"value, low, high": metrics, "without the numbers' tokens": _words_alone(pipeline, rows, seed)}
    return bars, {"n": len(set(rows["subject"])), "images": COUNT, **facts}


def _words_alone(pipeline: TextToMRPipeline, rows: datasets.Dataset, seed: int) -> dict[str, float]:
    """Prompt adherence of volumes without the number tokens, which training also dropped at times."""
    alone: Any = TextToMRPipeline.from_pipe(pipeline, quantity_encoder=None)
    alone.set_progress_bar_config(disable=True)
    targets = targets_of(rows)
    images = generate_from_prompts(alone, prompts_of(alone, targets), seed, num_inference_steps=20)
    report = evaluate_prompt_adherence(
        targets, predict_attributes(predictor(), images), rows["subject"], dataset=DATASET, seed=seed
    )
    return {key: report.value(key) for key in (VENTRICLES_R, MEDIAN)}


def splits_of_config() -> datasets.DatasetDict:
    """The splits of the model's configuration."""
    config = parse_config(CaptionedDataConfig, TextToMRConfig, TrainingConfig, argv=["--config", CONFIG])[0]
    return load_captioned_data(config)


def predictor() -> SliceAttributePredictor:
    """The shipped attribute predictor."""
    return SliceAttributePredictor.from_pretrained(PREDICTOR).eval()


def _padded(pipeline: TextToMRPipeline, rows: datasets.Dataset, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The image of a short prompt, alone and in a batch with a long one."""
    targets = targets_of(rows.select(range(32)))
    long = write_prompt(max(targets, key=lambda facts: len(facts.volumes)), seed)
    short = write_prompt(targets[0], seed, regions=2)

    def image(texts: list[str]) -> torch.Tensor:
        generators = sample_generators(seed, len(texts))
        return pipeline(texts, generator=generators, output_type="pt").images[0]

    return image([short]), image([short, long])
