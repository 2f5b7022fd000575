"""A phantom volume and real tumours segmented by the shipped ensemble: mask, probability, doubt, and how good it is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from meddiffusers.data.io import read
from meddiffusers.data.phantoms.brain.phantom import BrainPhantom
from meddiffusers.data.preprocessing.slices import slices
from meddiffusers.data.scan import Scan, stack_channels
from meddiffusers.demo.outlines import outlined, spread_over
from meddiffusers.demo.page import Section
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.hub.load import load

REPOSITORY = "seg-ddpm-brain"
TUMOURS = ("tumour_1", "tumour_2")
PHANTOM_SEED, DIFFICULTY, SPACING = 11, 0.6, (1.5, 1.5, 4.0)  # mm
SHOWN = 6


def segmentation_section(checkpoints: Path, scans: Path) -> Section:
    """The section; the repository comes from the folder `checkpoints`, the real scans from `scans`."""
    start = time.perf_counter()
    pipeline: Any = load(checkpoints / REPOSITORY)
    pipeline.set_progress_bar_config(disable=True)
    case = BrainPhantom(PHANTOM_SEED, lesion="tumour", difficulty=DIFFICULTY).volume(SPACING)
    subjects: dict[str, tuple[Scan, Any]] = {
        "phantom, 4 modalities": (stack_channels(list(case.images.values())), case.lesions)
    }
    for name in TUMOURS:
        subjects[f"real {name[-1]}, T1ce alone"] = (
            read(scans / f"{name}_t1ce.nrrd", modality="t1ce"),
            read(scans / f"{name}_seg.nrrd"),
        )
    figures, rows = {}, []
    for title, (scan, truth) in subjects.items():
        began = time.perf_counter()
        result = pipeline(scan, generator=torch.Generator().manual_seed(0))
        seconds = time.perf_counter() - began
        caption = f"{title}: the given outline in red, the mask's in yellow; below, the probability and the entropy"
        figures[caption] = _panel(scan, truth, result)
        whole, core = _dice(result.mask, truth, (1, 2, 3)), _dice(result.mask, truth, (1, 3))
        rows.append([title, str(scan.shape[2]), f"{whole:.2f}", f"{core:.2f}", f"{seconds:.1f}"])
    return Section(
        key="segmentation",
        title="A tumour segmented, and how sure the model is",
        text="The mask is where a tumour is likelier than not; five masks are denoised beside it, in ten steps. The "
        "model was trained on phantoms alone. The real scans have one of its four modalities, the skull, and thick "
        "slices, and their outlines were drawn by another rule than the phantom's, so they show what carries over and "
        "what does not: read the Dice.",
        figures=figures,
        table=[["subject", "slices", "Dice, whole tumour", "Dice, without oedema", "seconds"], *rows],
        metrics={f"Dice, {row[0]}": float(row[2]) for row in rows},
        seconds=time.perf_counter() - start,
    )


def _dice(mask: Scan, truth: Scan, labels: tuple[int, ...]) -> float:
    """Of the voxels with these labels of the model and all that the truth marks."""
    found, marked = np.isin(mask.array, labels), truth.array > 0
    return float(2 * (found & marked).sum() / max(found.sum() + marked.sum(), 1))


def _panel(scan: Scan, truth: Scan, result: Any) -> Any:
    """Slices that meet the given mask, from low to high."""
    given, found = (slices(labels).array[:, 0] > 0 for labels in (truth, result.mask))
    chosen = spread_over(given, SHOWN)
    grey = slices(scan).array[:, -1]
    maps = {
        "probability": 1 - slices(result.probability).array[:, 0],
        "entropy": slices(result.uncertainty["entropy"]).array[:, 0],
    }
    rows = {"scan": [outlined(grey[index], [given[index], found[index]]) for index in chosen]}
    ends = {"probability": (0.0, 1.0), "entropy": (0.0, float(np.log(len(result.probability.array))))}
    return panel({**rows, **{name: list(values[chosen]) for name, values in maps.items()}}, tile=1.3, ranges=ends)
