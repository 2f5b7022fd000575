"""An adapter for another scanner: ten phantom subjects, five CPU minutes, against full fine-tuning for as long.

The other scanner has other contrasts (exponents of the intensities, T2 inverted), half the resolution and more noise.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from accelerate.utils import set_seed
from scipy.ndimage import zoom
from segmentation_quality import test_config

from meddiffusers import ConditionalSegmentationPipeline
from meddiffusers.datasets.labelled_config import PHANTOM_HEIGHTS, load_test_split
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE, phantom_labelled_slices
from meddiffusers.evaluation.results import Bar
from meddiffusers.evaluation.segmentation.run import run_segmentation
from meddiffusers.evaluation.segmentation.scores import score
from meddiffusers.hub.load import load
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.loop import train
from meddiffusers.training.tasks.segmentation.model import SegmentationModelConfig
from meddiffusers.training.tasks.segmentation.task import SegmentationTask

SUBJECTS, SLICES_OF_EACH, SEED_OF_SUBJECTS = 10, 8, 1000
EXPONENTS, NOISE = {"t1": 2.0, "t1ce": 0.5, "flair": 2.0}, 0.06
RANK, CPU_MINUTES, CORES, TESTED = 8, 5, 2, 240
RATES = {"full": 2e-4, "adapter": 1e-3}


def lora(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """Dice on held-out subjects of the other scanner: without training, fully fine-tuned, with an adapter."""
    pipeline: Any = load(checkpoint)
    config = test_config(pipeline)
    test = on_other_scanner(load_test_split(config).select(range(TESTED)), pipeline.modalities)
    scans = phantom_labelled_slices(
        SUBJECTS * SLICES_OF_EACH,
        SEED_OF_SUBJECTS,
        size=config.resolution,
        modalities=tuple(config.modalities),
        classes=tuple(config.classes),
        per_subject=SLICES_OF_EACH,
        shares={"tumour": 1.0},
        heights=PHANTOM_HEIGHTS,
        num_proc=2,
    )
    splits = {"train": on_other_scanner(scans, pipeline.modalities), "test": test}
    dice, facts = {"untouched": _dice(pipeline, test, seed)}, {}
    for name, rank in {"full": None, "adapter": RANK}.items():
        model = SegmentationModelConfig(pretrained_model_name_or_path=str(checkpoint), rank=rank, noise_samples=0.25)
        with tempfile.TemporaryDirectory() as folder:
            set_seed(seed)
            result = train(SegmentationTask(config, model, splits), _training(folder, seed, RATES[name]))
            dice[name] = _dice(result.pipeline, test, seed)
            facts[f"steps, {name}"], facts[f"CPU minutes, {name}"] = result.step, result.seconds / 60 * CORES
            if rank:
                facts["bytes"] = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
    closed = (dice["adapter"] - dice["untouched"]) / (dice["full"] - dice["untouched"])
    bars = [
        Bar("adapter: part of the Dice gap to full fine-tuning that it closes", closed, ">=", 0.5),
        Bar("adapter: CPU minutes of training", facts["CPU minutes, adapter"], "<=", CPU_MINUTES),
        Bar("adapter: MB", facts["bytes"] / 1e6, "<=", 1),
    ]
    return bars, {"n": len(set(test["subject"])), **facts, "Dice": dice}


def on_other_scanner(rows: datasets.Dataset, modalities: tuple[str, ...]) -> datasets.Dataset:
    """Simulate the rows as images from another scanner."""
    return rows.with_format("numpy").map(_of_other_scanner, with_indices=True, fn_kwargs={"modalities": modalities})


def _of_other_scanner(row: dict[str, Any], index: int, modalities: tuple[str, ...]) -> dict[str, Any]:
    rng = np.random.default_rng([7, index])
    image = row["image"].astype(np.float32) / INTENSITY_SCALE
    for channel, name in zip(image, modalities, strict=True):
        head = channel > 0
        values = channel ** EXPONENTS[name] if name in EXPONENTS else 1.05 - channel
        coarse = zoom(zoom(values * head, 0.5, order=1), 2, order=1)
        real, imaginary = NOISE * rng.standard_normal((2, *coarse.shape))
        noisy = np.hypot(coarse + real, imaginary)
        channel[:] = np.where(head, noisy.clip(0.01, 1), 0)
    return {"image": np.rint(image * INTENSITY_SCALE).astype(np.int16)}


def _training(folder: str, seed: int, rate: float) -> TrainingConfig:
    return TrainingConfig(
        output_dir=folder,
        seed=seed,
        max_train_minutes=0.96 * CPU_MINUTES / CORES,
        max_train_steps=10_000,
        train_batch_size=8,
        learning_rate=rate,
        lr_scheduler="constant_with_warmup",
        lr_warmup_steps=10,
        adam_weight_decay=0.0,
        use_ema=True,
        ema_decay=0.98,
        checkpointing_steps=10_000,
    )


def _dice(pipeline: ConditionalSegmentationPipeline, rows: datasets.Dataset, seed: int) -> float:
    """Dice of the mask, which does not depend on samples and steps."""
    pipeline.set_progress_bar_config(disable=True)
    result = run_segmentation(pipeline, rows, num_inference_steps=1, ensemble_size=1, seed=seed)
    return float(np.nanmean(score(result).whole.dice))
