"""Predictions of an anomaly detector on held-out slices with the reference: the input of its evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch

from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE
from meddiffusers.pipelines.anomaly_detection_pipeline import AnomalyDetectionPipeline
from meddiffusers.utils.seeds import sample_generators

DISPLAYED = ("flair", "t2", "t1ce", "t1")  # figures show the first of these that the data has


@dataclass(frozen=True, eq=False)
class AnomalyResult:
    """Predictions and reference for B slices; rows go down, columns right.

    Args:
        maps: (B, H, W) float32 anomaly maps in any unit; higher is more anomalous.
        masks: (B, H, W) bool masks of the detector.
        scores: (B,) float32 anomaly score of each slice.
        reference: (B, H, W) bool ground truth.
        head: (B, H, W) bool, the pixels that are evaluated.
        images: (B, H, W) float32 in [0, 1], one modality for figures.
        counterfactuals: (B, H, W) float32 in [0, 1], the healthy version of `images`.
        lesions: B names, the kind of lesion of each slice's subject; "none" for a healthy one.
        subjects: B names, the subject of each slice.
        spacing: Pixel spacing (row, column) in mm.

    Raises:
        ValueError: Shapes differ, maps or scores are not finite, or no slice has an anomaly.
    """

    maps: np.ndarray
    masks: np.ndarray
    scores: np.ndarray
    reference: np.ndarray
    head: np.ndarray
    images: np.ndarray
    counterfactuals: np.ndarray
    lesions: Sequence[str]
    subjects: Sequence[str]
    spacing: tuple[float, float]

    def __post_init__(self) -> None:
        n, *size = self.reference.shape
        for name in ("maps", "masks", "head", "images", "counterfactuals"):
            if (shape := getattr(self, name).shape) != (n, *size):
                raise ValueError(f"{name} has shape {shape}; expected {(n, *size)}, as the reference.")
        for name in ("scores", "lesions", "subjects"):
            if (count := len(getattr(self, name))) != n:
                raise ValueError(f"Got {count} {name} for {n} slices; expected one for each slice.")
        if not (np.isfinite(self.maps).all() and np.isfinite(self.scores).all()):
            raise ValueError("maps or scores hold NaN or infinite values; expected finite ones.")
        if not self.reference.any():
            raise ValueError("No slice has an anomaly; expected at least one.")

    @property
    def area(self) -> np.ndarray:
        """(B,) area of the anomaly in mm²."""
        return np.count_nonzero(self.reference, axis=(1, 2)) * self.spacing[0] * self.spacing[1]


def run_anomaly(
    pipeline: AnomalyDetectionPipeline, rows: datasets.Dataset, seed: int = 0, **settings: Any
) -> AnomalyResult:
    """Run the pipeline on labelled slices.

    Args:
        pipeline: The pipeline to run.
        rows: Rows as `datasets.labelled_slices` makes them; any foreground is an anomaly. Without a column "lesion"
            the kind of every slice with foreground is "anomaly".
        seed: Seed of the noise, if the settings use any; the noise of row i depends on (seed, i) only.
        **settings: Further arguments of the pipeline.
    """
    read = rows.with_format("numpy")[:]
    images = np.stack(read["image"]).astype(np.float32) / INTENSITY_SCALE
    reference = np.stack(read["reference"]) if "reference" in read else np.stack(read["masks"])[:, 0]
    generators = sample_generators(seed, len(images))
    output: Any = pipeline(torch.from_numpy(images), generator=generators, **settings)
    channel = displayed_channel(pipeline.modalities)
    kinds = read["lesion"] if "lesion" in read else np.where(reference.any(axis=(1, 2)), "anomaly", "none")
    edge = pipeline.config["spacing"] or 1.0
    return AnomalyResult(
        maps=output.anomaly_map,
        masks=output.mask > 0,
        scores=output.score,
        reference=reference > 0,
        head=images.max(axis=1) > 0,
        images=images[:, channel],
        counterfactuals=output.counterfactual[..., channel],
        lesions=[str(kind) for kind in kinds],
        subjects=[str(subject) for subject in read["subject"]],
        spacing=(edge, edge),
    )


def displayed_channel(modalities: Sequence[str]) -> int:
    """Index of the modality that figures show."""
    return next((modalities.index(name) for name in DISPLAYED if name in modalities), 0)
