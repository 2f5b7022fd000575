"""The shipped model of slices from label maps: conditioning fidelity, and segmentation trained on its slices.

Conditioning fidelity is read from its card, which `meddiffusers evaluate ldm` measured with the shipped segmentation
model. Small U-Nets are trained here: one on phantoms, the others on slices generated from the same maps, with and
without guidance. They are tested on slices of other phantoms.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from accelerate.utils import set_seed
from supervised_unet import BATCH, SupervisedTask, configured, logits

from meddiffusers.cli.latent_diffusion import slices_like
from meddiffusers.datasets.labelled_config import LabelledDataConfig, load_labelled_data
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE, row_features
from meddiffusers.datasets.rows import images_of
from meddiffusers.evaluation.generation.run import first_rater_masks, generate_slices
from meddiffusers.evaluation.metrics.overlap import overlap
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Bar
from meddiffusers.hub.load import load
from meddiffusers.hub.training_config import recorded_data
from meddiffusers.training.engine.loop import train

REPOSITORY = "ldm-brain-mask-2d"
PAIRS, STEPS, CHANNELS = 1000, 1000, [16, 32, 64]


def masks(checkpoints: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """The bars."""
    report = Report.read(checkpoints / REPOSITORY)
    pipeline: Any = load(checkpoints / REPOSITORY)
    pipeline.set_progress_bar_config(disable=True)
    data = slices_like(pipeline, "phantom", recorded_data(checkpoints / REPOSITORY))
    splits = load_labelled_data(data)
    known = splits["train"].select(range(PAIRS))
    maps, whose = first_rater_masks(known), list(known["subject"])
    sources = {"phantoms": images_of(known)}
    for name, scale in (("generated", 1.0), ("generated with guidance 2", 2.0)):
        sources[name] = generate_slices(pipeline, maps, seed + 1, num_inference_steps=20, guidance_scale=scale)
    dice = {
        name: _dice_after_training(_rows(of, maps, whose), splits["test"], data, seed) for name, of in sources.items()
    }
    bars = [
        Bar("maps: Dice of the conditioning map and the segmentation", report.value("dice_whole"), ">=", 0.8),
        Bar("maps: the same, of 1 cm² or more", report.value("dice_whole_large"), ">=", 0.8),
        Bar(
            "maps: Dice of a segmenter trained on generated slices over one trained on phantoms",
            dice["generated"] / dice["phantoms"],
            ">=",
            0.9,
        ),
    ]
    metrics = {metric.key: [metric.value, metric.low, metric.high] for metric in report.metrics}
    return bars, {"n": report.metrics[0].n, "value, low, high": metrics, "trained on": dice, "pairs": PAIRS}


def _rows(images: np.ndarray, maps: np.ndarray, subjects: list[str]) -> datasets.Dataset:
    """Labelled slices with one rater."""
    table = {
        "image": list(np.rint(images * INTENSITY_SCALE).astype(np.int16)),
        "masks": list(maps[:, None].astype(np.uint8)),
        "subject": subjects,
    }
    size = images.shape[2], images.shape[3]
    return datasets.Dataset.from_dict(table, features=datasets.Features(row_features(images.shape[1], 1, size)))


def _dice_after_training(rows: datasets.Dataset, tests: datasets.Dataset, data: LabelledDataConfig, seed: int) -> float:
    """Dice of whole tumours in test slices, for a U-Net trained on the rows."""
    _, model, training = configured()
    set_seed(seed)
    task = SupervisedTask(data, model, CHANNELS, {"train": rows, "test": tests})
    folder = f"runs/ldm-masks-{rows._fingerprint}-{STEPS}"
    settings: dict[str, Any] = {"max_train_steps": STEPS, "validation_steps": None, "resume_from_checkpoint": "latest"}
    unet = train(task, replace(training, output_dir=folder, **settings)).pipeline
    with torch.inference_mode():
        images = torch.from_numpy(images_of(tests))
        segmented = torch.cat([logits(unet, part).argmax(dim=1) for part in images.split(BATCH)]).numpy()
    maps = first_rater_masks(tests)
    dice = overlap((segmented > 0).astype(np.uint8), (maps > 0).astype(np.uint8), [1], (1.0, 1.0)).dice[:, 0]
    return float(dice[maps.any(axis=(1, 2))].mean())
