"""A phantom's beat with errors put in, and a real beating heart that a threshold segmented: both repaired."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.draw import polygon2mask
from skimage.filters import threshold_otsu

from meddiffusers.data.io import read
from meddiffusers.data.phantoms.cardiac import CardiacPhantom, corrupted
from meddiffusers.data.phantoms.cardiac.phantom import SPACING
from meddiffusers.demo.outlines import outlined
from meddiffusers.demo.page import Section
from meddiffusers.evaluation.cardiac.figures import curves, frames_panel
from meddiffusers.evaluation.cardiac.report import dice
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.hub.load import load

REPOSITORY = "ar-vae-cardiac"
SEED, ERRORS, RATE, FRAMES = 300_041, 3, 0.2, 25
REAL = "heart_cine.dcm"
# Corners of the region that holds the left ventricle's cavity in every frame, (row, column), set by eye.
REGION = ((160, 112), (140, 109), (112, 113), (97, 121), (95, 130), (106, 141), (132, 148), (160, 147))
WALL_MM, BLUR = 10.0, 1.5


def hearts_section(checkpoints: Path, scans: Path) -> Section:
    """The section; the repository comes from the folder `checkpoints`, the real heart from `scans`."""
    start = time.perf_counter()
    pipeline: Any = load(checkpoints / REPOSITORY)
    phantom = CardiacPhantom(SEED)
    truth = phantom.labels(phantom.phases(FRAMES))
    broken, _ = corrupted(truth, SPACING, ERRORS, RATE)
    repaired = pipeline(broken, SPACING, cyclic=True)
    images, spacing = real_heart(scans / REAL)
    segmented = threshold_segmentation(images, spacing)
    real = pipeline(segmented, spacing, cyclic=True)
    sequences = {"before": broken, "after": repaired.labels}
    overlap = {name: float(dice(labels, truth).mean()) for name, labels in sequences.items()}
    return Section(
        key="hearts",
        title="A beating heart, made steady",
        text="Segmentations of a sequence, each frame by itself, hold hearts that cannot be and that jump. What is "
        "wrong is drawn anew from the frames around it by a model of shapes, and nothing else is touched. The model "
        "knows phantoms in apical views. The real heart is a long-axis MR sequence, turned so that its apex is up, and "
        "segmented by Otsu's threshold within a region that was set by hand, with a wall of ten millimetres; nobody "
        "has outlined it, so there is no truth to compare with.",
        figures={
            "A phantom's beat": frames_panel(
                {"truth": truth, "as segmented": broken, "repaired": repaired.labels}, repaired.redrawn
            ),
            "The phantom's attributes": curves(
                {
                    "truth": pipeline.report(truth, SPACING).attributes,
                    "as segmented": repaired.before.attributes,
                    "repaired": repaired.after.attributes,
                }
            ),
            "A real heart: as segmented by a threshold, and repaired": _real_panel(images, segmented, real),
            "The real heart's attributes": curves(
                {"as segmented": real.before.attributes, "repaired": real.after.attributes}
            ),
        },
        table=[
            ["sequence", "frames drawn anew", "inconsistent frames", "invalid frames", "ejection fraction, %"],
            _row("phantom", repaired),
            _row("real, by a threshold", real),
        ],
        metrics={f"Dice, phantom, {name}": value for name, value in overlap.items()},
        seconds=time.perf_counter() - start,
    )


def real_heart(path: Path) -> tuple[np.ndarray, tuple[float, float]]:
    """Images (T, H, W) with the apex up, and mm of a pixel downwards and across."""
    scan = read(path)
    frames = scan.array[..., 0].swapaxes(1, 2)
    return np.rot90(frames, axes=(1, 2)).copy(), (scan.spacing[0], scan.spacing[1])


def threshold_segmentation(images: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Label maps (T, H, W): within the region what is brighter than Otsu's threshold, and a wall around it."""
    region = polygon2mask(images.shape[1:], np.array(REGION))
    base = max(row for row, _ in REGION)
    labels = np.zeros(images.shape, np.uint8)
    for number, image in enumerate(images):
        smooth = ndimage.gaussian_filter(image.astype(float), BLUR)
        cavity = region & (smooth > threshold_otsu(smooth[region]))
        near = ndimage.distance_transform_edt(~cavity, sampling=spacing) <= WALL_MM
        near[base:] = False
        labels[number] = np.where(cavity, 1, np.where(near, 2, 0))
    return labels


def _real_panel(images: np.ndarray, segmented: np.ndarray, real: Any) -> Any:
    chosen = np.linspace(0, len(images) - 1, 8).round().astype(int)
    around = slice(70, 200), slice(60, 190)
    rows = {
        name: [outlined(images[t][around] / 255, [labels[t][around] > 0, labels[t][around] == 1]) for t in chosen]
        for name, labels in (("as segmented", segmented), ("repaired", real.labels))
    }
    titles = [f"{t}{', drawn anew' if real.redrawn[t] else ''}" for t in chosen]
    return panel(rows, {"as segmented": titles}, tile=1.3)


def _row(name: str, result: Any) -> list[str]:
    before, after = result.before, result.after
    return [
        name,
        f"{result.redrawn.sum()} of {len(result.redrawn)}",
        f"{before.inconsistent.sum()} → {after.inconsistent.sum()}",
        f"{before.invalid.sum()} → {after.invalid.sum()}",
        f"{100 * before.ejection_fraction:.1f} → {100 * after.ejection_fraction:.1f}",
    ]
