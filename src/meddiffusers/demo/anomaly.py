"""Weakly supervised anomaly detection: phantom slices with and without lesions, and a real tumour."""

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
from meddiffusers.data.scan import Scan
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE, normalise_to_int16
from meddiffusers.demo.outlines import outlined, spread_over
from meddiffusers.demo.page import Section
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.hub.load import load
from meddiffusers.pipelines.anomaly_detection_pipeline import AnomalyDetectionPipeline, AnomalyDetectionPipelineOutput

REPOSITORY, REAL = "anomaly-ddim-brain", "tumour_1"
LESIONS = {"tumour": "tumour", "white_matter_lesions": "white-matter lesions", "cavity": "cavity", None: "healthy"}
SEEDS, DIFFICULTY, HEIGHT = (23, 21), 0.4, 15.0  # two brains for each lesion; HEIGHT in mm, for healthy brains
COLUMNS = 6
REAL_STEPS = 2  # for the real scan, whose counterfactual is not shown; the anomaly map does not depend on it


def anomaly_section(checkpoints: Path, scans: Path, num_inference_steps: int = 25) -> Section:
    """Build the section from the repository in the folder `checkpoints` and the real scan in the folder `scans`."""
    start = time.perf_counter()
    pipeline = cast(AnomalyDetectionPipeline, load(checkpoints / REPOSITORY))
    pipeline.set_progress_bar_config(disable=True)
    size, titles = pipeline.unet.config["sample_size"], [title for title in LESIONS.values() for _ in SEEDS]
    subjects = [_phantom(lesion, seed, size, pipeline.modalities) for lesion in LESIONS for seed in SEEDS]
    images, truth = (np.stack(part) for part in zip(*subjects, strict=True))
    result = pipeline(torch.from_numpy(images), num_inference_steps=num_inference_steps)
    dice = _dice(result.mask > 0, truth)
    rows = [
        [title, f"{score:.3f}", f"{value:.2f}" if lesion.any() else "—"]
        for title, score, value, lesion in zip(titles, result.score, dice, truth, strict=True)
    ]
    scan, outline = read(scans / f"{REAL}_t1ce.nrrd", modality="t1ce"), read(scans / f"{REAL}_seg.nrrd")
    real = pipeline(scan, num_inference_steps=min(REAL_STEPS, num_inference_steps))
    real_dice = float(_dice((real.mask.array > 0).reshape(1, -1), (outline.array > 0).reshape(1, -1))[0])
    flair = images[:, pipeline.modalities.index("flair")]
    return Section(
        key="anomalies",
        title="Weakly supervised anomaly detection",
        text="The pipeline inverts an image to noise with DDIM and denoises it towards the label “healthy”. The "
        "anomaly map shows where denoising as “healthy” and as “diseased” differs. Training used only this label for "
        "each image, no outlines. One Otsu threshold for all phantoms turns the maps into masks. The real scan has one "
        "of the model's four modalities and includes the skull; the model was not trained for either.",
        figures={
            "Phantoms. Top: reference outline of the lesion in red, outline of the predicted mask in yellow. Middle: "
            "healthy counterfactual. Bottom: anomaly map.": _phantom_panel(flair, truth, result, titles),
            "Real tumour, T1ce only. Top: reference outline in red, outline of the predicted mask in yellow. Bottom: "
            "anomaly map.": _real_panel(scan, outline, real),
        },
        table=[
            ["image", "anomaly score", "Dice"],
            *rows,
            [f"real tumour {REAL[-1]}, T1ce only", f"{real.score.max():.3f}", f"{real_dice:.2f}"],
        ],
        metrics={"Dice, phantom tumours": float(dice[: len(SEEDS)].mean()), "Dice, real tumour": real_dice},
        seconds=time.perf_counter() - start,
    )


def _phantom(lesion: str | None, seed: int, size: int, modalities: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Image (C, H, W) in [0, 1] and lesion mask (H, W), bool, of the slice at the lesion's median height."""
    brain = BrainPhantom(seed, lesion=lesion, difficulty=DIFFICULTY)
    heights = brain.lesion_heights()
    subject = brain.slice(float(np.median(heights)) if len(heights) else HEIGHT, size, modalities)
    channels = np.concatenate([slices(image).array[0] for image in subject.images.values()])
    truth = np.zeros((size, size), bool) if subject.lesions is None else slices(subject.lesions).array[0, 0] > 0
    return normalise_to_int16(channels).astype(np.float32) / INTENSITY_SCALE, truth


def _dice(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Dice coefficients (B,) of masks (B, …)."""
    axes = tuple(range(1, truth.ndim))
    return 2 * (predicted & truth).sum(axis=axes) / np.maximum(predicted.sum(axis=axes) + truth.sum(axis=axes), 1)


def _phantom_panel(
    grey: np.ndarray, truth: np.ndarray, result: AnomalyDetectionPipelineOutput, titles: list[str]
) -> PIL.Image.Image:
    masks = zip(truth, result.mask > 0, strict=True)
    rows = {
        "FLAIR": [outlined(image, pair) for image, pair in zip(grey, masks, strict=True)],
        "counterfactual": result.counterfactual[..., -1],
        "anomaly map": result.anomaly_map,
    }
    top = float(np.percentile(result.anomaly_map, 99.8))
    return panel(rows, {"FLAIR": titles}, tile=1.1, ranges={"counterfactual": (0.0, 1.0), "anomaly map": (0.0, top)})


def _real_panel(scan: Scan, truth: Scan, result: AnomalyDetectionPipelineOutput) -> PIL.Image.Image:
    """Slices that contain the reference mask, from inferior to superior."""
    reference, predicted = (slices(labels).array[:, 0] > 0 for labels in (truth, result.mask))
    chosen = spread_over(reference, COLUMNS)
    maps = slices(result.anomaly_map).array[:, 0]
    rows = {"scan": [outlined(slices(scan).array[i, -1], [reference[i], predicted[i]]) for i in chosen]}
    ranges = {"anomaly map": (0.0, float(np.percentile(maps[maps > 0], 99.5)))}
    return panel({**rows, "anomaly map": list(maps[chosen])}, tile=1.3, ranges=ranges)
