"""The shipped adapter for a low-field scanner, trained on nineteen scans: fidelity, prompt adherence and size.

The command on its card trains it. The test subjects are others.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from text_to_mr_quality import predictor

from meddiffusers import TextToMRPipeline
from meddiffusers.data.layouts import write_own
from meddiffusers.data.layouts.own import TABLE
from meddiffusers.data.phantoms.brain.population import low_field_subjects
from meddiffusers.datasets.captioned_config import CaptionedDataConfig, load_captioned_data
from meddiffusers.evaluation.metrics.image_features import EfficientNetLite0
from meddiffusers.evaluation.metrics.kid import kid_score
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Bar
from meddiffusers.evaluation.text_to_mr.prompt_adherence import MEDIAN, evaluate_prompt_adherence, predict_attributes
from meddiffusers.evaluation.text_to_mr.run import generate_from_prompts, prompts_of, real_images, targets_of
from meddiffusers.hub.checks import ADAPTER
from meddiffusers.hub.load import load
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.tasks.text_to_mr.model import TextToMRConfig

CONFIG, TEST_SCANS, IMAGES = "training/configs/text_to_mr_lora.yaml", 24, 128
FOLDER, SEED = Path("examples/checkpoints/lora-lowfield"), 3000  # of the test subjects


def lora(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """The bars: KID to the new scanner's slices, prompt adherence, size, and the base model's unchanged files."""
    before = _digests(checkpoint)
    with tempfile.TemporaryDirectory() as temporary:
        rows = _test_rows(Path(temporary, "scans")).shuffle(seed=seed)
        rows = rows.select(range(min(IMAGES, len(rows))))
        results = {"base": _evaluate(load(checkpoint), rows, seed)}
        adapted: Any = load(checkpoint)
        adapted.load_lora_weights(FOLDER)
        results["adapter"] = _evaluate(adapted, rows, seed)
        results["real images"] = _adherence(real_images(rows), rows, seed)
    distance = results["adapter"]["kid"] / results["base"]["kid"]
    lost = results["base"][MEDIAN] - results["adapter"][MEDIAN]
    bars = [
        Bar("adapter: KID to the new scanner's slices, over the base model's", distance, "<=", 0.5),
        Bar("adapter: loss of r of target and predicted volumes, median region", lost, "<=", 0.05),
        Bar("adapter: MB", (FOLDER / ADAPTER).stat().st_size / 1e6, "<=", 3),
        Bar("adapter: files of the base model that changed", float(_digests(checkpoint) != before), "==", 0),
    ]
    minutes = Report.read(FOLDER).run["training_minutes"]
    return bars, {"n": TEST_SCANS, "images": len(rows), "minutes": minutes, **results}


def _test_rows(folder: Path) -> datasets.Dataset:
    """Slices of low-field scans, written to files and read like a user's own."""
    write_own(low_field_subjects(TEST_SCANS, SEED), folder)
    named = ["--dataset_name", str(folder), "--table", str(folder / TABLE), "--labels_column", "labels"]
    config = parse_config(CaptionedDataConfig, TextToMRConfig, TrainingConfig, argv=["--config", CONFIG, *named])[0]
    data = load_captioned_data(config)
    return datasets.concatenate_datasets([data["train"], data["test"]])


def _evaluate(pipeline: TextToMRPipeline, rows: datasets.Dataset, seed: int) -> dict[str, float]:
    pipeline.set_progress_bar_config(disable=True)
    targets, network = targets_of(rows), EfficientNetLite0()
    images = generate_from_prompts(pipeline, prompts_of(pipeline, targets), seed, num_inference_steps=20)
    features = [network(each).cpu().numpy() for each in (real_images(rows), images)]
    distance = kid_score(features[0], features[1], seed=seed).value
    return {"kid": distance, **_adherence(images, rows, seed)}


def _adherence(images: np.ndarray, rows: datasets.Dataset, seed: int) -> dict[str, float]:
    """Prompt adherence by the predictor, which was not trained on this scanner."""
    subjects = list(rows["subject"])
    report = evaluate_prompt_adherence(
        targets_of(rows), predict_attributes(predictor(), images), subjects, dataset="", seed=seed
    )
    return {key: report.value(key) for key in ("modality_accuracy", MEDIAN)}


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(folder.rglob("*.safetensors"))
    return {str(file): hashlib.blake2b(file.read_bytes()).hexdigest() for file in files}
