"""Tumour segmentation with uncertainty: a phantom volume and two real tumours."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

import numpy as np
import PIL.Image
import torch

from meddiffusers.data.io import read
from meddiffusers.data.phantoms.brain.phantom import BrainPhantom
from meddiffusers.data.preprocessing.slices import slices
from meddiffusers.data.scan import Scan, stack_channels
from meddiffusers.demo.outlines import outlined, spread_over
from meddiffusers.demo.page import Section
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.hub.load import load
from meddiffusers.pipelines.conditional_segmentation_pipeline import (
    ConditionalSegmentationPipeline,
    ConditionalSegmentationPipelineOutput,
)

REPOSITORY = "seg-ddpm-brain"
TUMOURS = ("tumour_1", "tumour_2")
PHANTOM_SEED, DIFFICULTY, SPACING = 11, 0.6, (1.5, 1.5, 8.0)  # mm
COLUMNS = 6


def segmentation_section(checkpoints: Path, scans: Path, num_inference_steps: int = 5) -> Section:
    """Build the section from the repository in the folder `checkpoints` and the real scans in the folder `scans`."""
    start = time.perf_counter()
    pipeline = cast(ConditionalSegmentationPipeline, load(checkpoints / REPOSITORY))
    pipeline.set_progress_bar_config(disable=True)
    figures, rows = {}, []
    for title, (scan, truth) in _subjects(scans).items():
        began = time.perf_counter()
        generator = torch.Generator().manual_seed(0)
        result = pipeline(scan, num_inference_steps=num_inference_steps, generator=generator)
        seconds = time.perf_counter() - began
        caption = (
            f"{title}. Top: reference outline in red, outline of the predicted mask in yellow. Middle: predicted "
            "probability of the tumour. Bottom: entropy of the prediction."
        )
        figures[caption] = _panel(scan, truth, result)
        whole, core = _dice(result.mask, truth, (1, 2, 3)), _dice(result.mask, truth, (1, 3))
        rows.append([title, str(scan.shape[2]), f"{whole:.2f}", f"{core:.2f}", f"{seconds:.1f}"])
    return Section(
        key="segmentation",
        title="Tumour segmentation with uncertainty",
        text=f"The pipeline denoises an ensemble of five masks in {num_inference_steps} steps and marks the voxels in "
        "which a tumour is more likely than not. The model was trained on phantoms only. Each real scan has one of the "
        "model's four modalities, includes the skull, and was annotated by other rules than the phantoms; the Dice "
        "coefficients show whether the model transfers to them.",
        figures=figures,
        table=[["subject", "slices", "Dice, whole tumour", "Dice, without oedema", "seconds"], *rows],
        metrics={f"Dice, {row[0]}": float(row[2]) for row in rows},
        seconds=time.perf_counter() - start,
    )


def _subjects(scans: Path) -> dict[str, tuple[Scan, Scan]]:
    """Scans with their reference masks, by title."""
    subject = BrainPhantom(PHANTOM_SEED, lesion="tumour", difficulty=DIFFICULTY).volume(SPACING)
    if subject.lesions is None:
        raise ValueError(f"Phantom {PHANTOM_SEED} has no tumour; choose another seed.")
    subjects = {"Phantom, 4 modalities": (stack_channels(list(subject.images.values())), subject.lesions)}
    for name in TUMOURS:
        scan = read(scans / f"{name}_t1ce.nrrd", modality="t1ce")
        subjects[f"Real tumour {name[-1]}, T1ce only"] = (scan, read(scans / f"{name}_seg.nrrd"))
    return subjects


def _dice(mask: Scan, truth: Scan, labels: tuple[int, ...]) -> float:
    """Dice coefficient of the voxels with these labels and the whole reference mask."""
    predicted, reference = np.isin(mask.array, labels), truth.array > 0
    return float(2 * (predicted & reference).sum() / max(predicted.sum() + reference.sum(), 1))


def _panel(scan: Scan, truth: Scan, result: ConditionalSegmentationPipelineOutput) -> PIL.Image.Image:
    """Slices that contain the reference mask, from inferior to superior."""
    reference, predicted = (slices(labels).array[:, 0] > 0 for labels in (truth, result.mask))
    chosen = spread_over(reference, COLUMNS)
    grey = slices(scan).array[:, -1]
    maps = {
        "probability": 1 - slices(result.probability).array[:, 0],
        "entropy": slices(result.uncertainty["entropy"]).array[:, 0],
    }
    rows = {"scan": [outlined(grey[i], [reference[i], predicted[i]]) for i in chosen]}
    ranges = {"probability": (0.0, 1.0), "entropy": (0.0, float(np.log(len(result.probability.array))))}
    return panel({**rows, **{name: list(values[chosen]) for name, values in maps.items()}}, tile=1.3, ranges=ranges)
