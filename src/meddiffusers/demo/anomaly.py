"""Slices with a tumour, other lesions and none, and a real tumour: what the shipped model takes to be not healthy."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

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

REPOSITORY, REAL = "anomaly-ddim-brain", "tumour_1"
KINDS = {"tumour": "tumour", "white_matter_lesions": "white-matter lesions", "cavity": "cavity", None: "healthy"}
SEEDS, DIFFICULTY, HEIGHT = (23, 21), 0.4, 15.0  # two brains of each kind; mm, where there is no lesion to meet
SHOWN = 6
STEPS = 10  # of the scan's counterfactual, which is not shown


def anomaly_section(checkpoints: Path, scans: Path) -> Section:
    """The section; the repository comes from the folder `checkpoints`, the real scan from `scans`."""
    start = time.perf_counter()
    pipeline: Any = load(checkpoints / REPOSITORY)
    pipeline.set_progress_bar_config(disable=True)
    size, titles = pipeline.unet.config["sample_size"], [title for title in KINDS.values() for _ in SEEDS]
    cases = [_phantom(kind, seed, size, pipeline.modalities) for kind in KINDS for seed in SEEDS]
    images, truth = (np.stack(part) for part in zip(*cases, strict=True))
    found = pipeline(torch.from_numpy(images))
    dice = _dice(found.mask > 0, truth)
    rows = [
        [title, f"{score:.3f}", f"{value:.2f}" if marked.any() else "—"]
        for title, score, value, marked in zip(titles, found.score, dice, truth, strict=True)
    ]
    scan, outline = read(scans / f"{REAL}_t1ce.nrrd", modality="t1ce"), read(scans / f"{REAL}_seg.nrrd")
    real = pipeline(scan, num_inference_steps=STEPS)
    overlap = float(_dice((real.mask.array > 0).reshape(1, -1), (outline.array > 0).reshape(1, -1))[0])
    return Section(
        key="anomalies",
        title="What is not healthy, found without outlines to learn from",
        text="A image is led to noise and back, towards what the model knows as healthy. The map shows how "
        "differently it is denoised if it is called healthy and if it is not; the model was told of each training "
        "phantom only that. Otsu's threshold, one for all phantoms, makes the mask. Of the real scan there is one of "
        "four modalities, with the skull, neither of which suits it.",
        figures={
            "Phantoms: the lesion's outline in red, the mask's in yellow": _phantom_panel(
                images[:, pipeline.modalities.index("flair")], truth, found, titles
            ),
            "A real tumour, T1ce alone: the given outline in red, the mask's in yellow": _real_panel(
                scan, outline, real
            ),
        },
        table=[
            ["phantom", "score", "Dice"],
            *rows,
            [f"real {REAL[-1]}, T1ce alone", f"{real.score.max():.3f}", f"{overlap:.2f}"],
        ],
        metrics={"Dice, phantom tumours": float(dice[: len(SEEDS)].mean()), "Dice, real": overlap},
        seconds=time.perf_counter() - start,
    )


def _phantom(kind: str | None, seed: int, size: int, modalities: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Image (C, H, W) in [0, 1] and lesion (H, W) bool of the slice in the middle of it."""
    brain = BrainPhantom(seed, lesion=kind, difficulty=DIFFICULTY)
    heights = brain.lesion_heights()
    case = brain.slice(float(np.median(heights)) if len(heights) else HEIGHT, size, modalities)
    channels = np.concatenate([slices(image).array[0] for image in case.images.values()])
    truth = np.zeros((size, size), bool) if case.lesions is None else slices(case.lesions).array[0, 0] > 0
    return normalise_to_int16(channels).astype(np.float32) / INTENSITY_SCALE, truth


def _dice(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N,) of masks (N, …)."""
    axes = tuple(range(1, truth.ndim))
    return 2 * (found & truth).sum(axis=axes) / np.maximum(found.sum(axis=axes) + truth.sum(axis=axes), 1)


def _phantom_panel(grey: np.ndarray, truth: np.ndarray, found: Any, titles: list[str]) -> PIL.Image.Image:
    rows = {
        "FLAIR": [outlined(*each) for each in zip(grey, zip(truth, found.mask > 0, strict=True), strict=True)],
        "as if healthy": found.counterfactual[..., -1],
        "map": found.anomaly_map,
    }
    ends = {"as if healthy": (0.0, 1.0), "map": (0.0, float(np.percentile(found.anomaly_map, 99.8)))}
    return panel(rows, {"FLAIR": titles}, tile=1.1, ranges=ends)


def _real_panel(scan: Scan, truth: Scan, found: Any) -> PIL.Image.Image:
    """Slices that meet the given mask, from low to high."""
    given, mask = (slices(labels).array[:, 0] > 0 for labels in (truth, found.mask))
    chosen = spread_over(given, SHOWN)
    maps = slices(found.anomaly_map).array[:, 0]
    rows = {"scan": [outlined(slices(scan).array[index, -1], [given[index], mask[index]]) for index in chosen]}
    ends = {"map": (0.0, float(np.percentile(maps[maps > 0], 99.5)))}
    return panel({**rows, "map": list(maps[chosen])}, tile=1.3, ranges=ends)
