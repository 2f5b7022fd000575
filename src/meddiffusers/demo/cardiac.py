"""Temporal consistency: a phantom with injected errors, and a real heart segmented by a threshold, both repaired."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import cast

import numpy as np
import PIL.Image
from scipy import ndimage
from skimage.draw import polygon2mask
from skimage.filters import threshold_otsu

from meddiffusers.data.io import read
from meddiffusers.data.phantoms.cardiac import CardiacPhantom, corrupt_sequence
from meddiffusers.data.phantoms.cardiac.phantom import SPACING
from meddiffusers.demo.outlines import outlined
from meddiffusers.demo.page import Section
from meddiffusers.evaluation.cardiac.figures import attribute_curves, frames_panel, with_heading
from meddiffusers.evaluation.cardiac.report import dice
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.hub.load import load
from meddiffusers.pipelines.meddiffusers_cardiac_labels_v1 import LV, MYO
from meddiffusers.pipelines.temporal_consistency_pipeline import (
    TemporalConsistencyPipeline,
    TemporalConsistencyPipelineOutput,
)

REPOSITORY = "ar-vae-cardiac"
SEED, ERRORS, RATE, FRAMES = 300_041, 3, 0.2, 25
REAL = "heart_cine.dcm"
# Corners (row, column), set by hand, of a polygon that contains the left-ventricular cavity in every frame.
LV_POLYGON = ((160, 112), (140, 109), (112, 113), (97, 121), (95, 130), (106, 141), (132, 148), (160, 147))
MYOCARDIUM_MM, BLUR = 10.0, 1.5


def cardiac_section(checkpoints: Path, scans: Path) -> Section:
    """Build the section from the repository in the folder `checkpoints` and the real heart in the folder `scans`."""
    start = time.perf_counter()
    pipeline = cast(TemporalConsistencyPipeline, load(checkpoints / REPOSITORY))
    phantom = CardiacPhantom(SEED)
    truth = phantom.labels(phantom.phases(FRAMES))
    corrupted, _ = corrupt_sequence(truth, SPACING, ERRORS, RATE)
    repaired = _repair(pipeline, corrupted, SPACING)
    images, spacing = real_heart(scans / REAL)
    segmented = threshold_segmentation(images, spacing)
    real = _repair(pipeline, segmented, spacing)
    sequences = {"before": corrupted, "after": repaired.labels}
    overlap = {name: float(dice(labels, truth).mean()) for name, labels in sequences.items()}
    return Section(
        key="cardiac",
        title="Temporal consistency of cardiac segmentations",
        text="Segmenting each frame of a sequence by itself gives shapes that are anatomically invalid or inconsistent "
        "in time. Such frames are replaced by the motion of the others, or by a VAE of left-ventricular shapes; all "
        "other frames stay unchanged. The VAE was trained on phantoms in apical views. The real heart is a long-axis "
        "MR sequence, rotated so that its apex is up, and segmented by Otsu's threshold within a polygon set by hand, "
        "with a myocardium of ten millimetres. It has no reference segmentation.",
        figures={
            "Phantom: ground truth, corrupted, and repaired": with_heading(
                frames_panel(
                    {"ground truth": truth, "as segmented": corrupted, "repaired": repaired.labels},
                    repaired.regenerated,
                ),
                repaired,
            ),
            "Phantom: attributes over the cardiac cycle": attribute_curves(
                {
                    "ground truth": pipeline.report(truth, SPACING).attributes,
                    "as segmented": repaired.before.attributes,
                    "repaired": repaired.after.attributes,
                }
            ),
            "Real heart: segmented by a threshold, and repaired": with_heading(
                _real_panel(images, segmented, real), real
            ),
            "Real heart: attributes over the cardiac cycle": attribute_curves(
                {"as segmented": real.before.attributes, "repaired": real.after.attributes}
            ),
        },
        table=[
            [
                "sequence",
                "regenerated frames",
                "smoothed frames",
                "inconsistent frames",
                "invalid frames",
                "ejection fraction, %",
            ],
            _row("phantom", repaired),
            _row("real, segmented by a threshold", real),
        ],
        metrics={f"Dice, phantom, {name}": value for name, value in overlap.items()},
        seconds=time.perf_counter() - start,
    )


def real_heart(path: Path) -> tuple[np.ndarray, tuple[float, float]]:
    """Read images `(T, H, W)`, apex up, and the distances in mm between rows and between columns."""
    scan = read(path)
    frames = scan.array[..., 0].swapaxes(1, 2)
    return np.rot90(frames, axes=(1, 2)).copy(), (scan.spacing[0], scan.spacing[1])


def threshold_segmentation(images: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Segment label maps `(T, H, W)`: the LV by Otsu's threshold within the polygon, and a myocardium around it."""
    polygon = polygon2mask(images.shape[1:], np.array(LV_POLYGON))
    base = max(row for row, _ in LV_POLYGON)
    labels = np.zeros(images.shape, np.uint8)
    for t, image in enumerate(images):
        smooth = ndimage.gaussian_filter(image.astype(float), BLUR)
        lv = polygon & (smooth > threshold_otsu(smooth[polygon]))
        near = ndimage.distance_transform_edt(~lv, sampling=spacing) <= MYOCARDIUM_MM
        near[base:] = False
        labels[t] = np.where(lv, LV, np.where(near, MYO, 0))
    return labels


def _repair(
    pipeline: TemporalConsistencyPipeline, labels: np.ndarray, spacing: float | tuple[float, float]
) -> TemporalConsistencyPipelineOutput:
    with warnings.catch_warnings():  # they are above the figures
        warnings.simplefilter("ignore", UserWarning)
        return cast(TemporalConsistencyPipelineOutput, pipeline(labels, spacing, cyclic=True))


def _real_panel(images: np.ndarray, segmented: np.ndarray, real: TemporalConsistencyPipelineOutput) -> PIL.Image.Image:
    chosen = np.linspace(0, len(images) - 1, 8).round().astype(int)
    box = slice(70, 200), slice(60, 190)
    rows = {
        name: [outlined(images[t][box] / 255, [labels[t][box] > 0, labels[t][box] == LV]) for t in chosen]
        for name, labels in (("as segmented", segmented), ("repaired", real.labels))
    }
    titles = [f"{t}{', regenerated' if real.regenerated[t] else ''}" for t in chosen]
    return panel(rows, {"as segmented": titles}, tile=1.3)


def _row(name: str, result: TemporalConsistencyPipelineOutput) -> list[str]:
    before, after = result.before, result.after
    return [
        name,
        f"{result.regenerated.sum()} of {len(result.regenerated)}",
        f"{result.smoothed.sum()}",
        f"{before.inconsistent.sum()} → {after.inconsistent.sum()}",
        f"{before.invalid.sum()} → {after.invalid.sum()}",
        f"{100 * before.ejection_fraction:.1f} → {100 * after.ejection_fraction:.1f}",
    ]
