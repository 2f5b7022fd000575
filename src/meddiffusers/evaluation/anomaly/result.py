"""What a detector of anomalies made of held-out slices, beside the truth: all that its evaluation needs."""

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

SHOWN = ("flair", "t2", "t1ce", "t1")  # the first of these that there is is drawn


@dataclass(frozen=True, eq=False)
class AnomalyResult:
    """N slices; rows go down, columns right.

    maps (N, H, W): float32, in any unit: the higher, the more anomalous.
    masks (N, H, W): bool, what the detector marks.
    scores (N,): float32, how anomalous a slice is.
    reference (N, H, W): bool, the truth.
    head (N, H, W): bool, the pixels that count.
    images, counterfactuals (N, H, W): float32 in [0, 1], one channel to draw.
    lesions: what kind of lesion a slice's subject has, "none" where it is healthy, N names.
    subjects: whose slice each is, N names.
    spacing: mm from row to row, from column to column.

    Raises:
        ValueError: shapes that differ, maps or scores that are not finite, or nothing to find.
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
                raise ValueError(f"Got {count} {name} of {n} slices; expected one of each slice.")
        if not (np.isfinite(self.maps).all() and np.isfinite(self.scores).all()):
            raise ValueError("maps or scores are NaN or infinite somewhere; expected finite values.")
        if not self.reference.any():
            raise ValueError("No slice has an anomaly; expected some, or nothing can be measured.")

    @property
    def area(self) -> np.ndarray:
        """(N,) area of the anomaly, mm²."""
        return np.count_nonzero(self.reference, axis=(1, 2)) * self.spacing[0] * self.spacing[1]


def run_anomaly(
    pipeline: AnomalyDetectionPipeline, rows: datasets.Dataset, seed: int = 0, **settings: Any
) -> AnomalyResult:
    """The pipeline on rows as `data.segmentation_slices` has them, where any foreground is an anomaly.

    seed: of the noise where `settings`, which go to the pipeline, ask for it; row n's depends on (seed, n) alone.
    Without a column `lesion` every slice with foreground is of the kind "anomaly".
    """
    read = rows.with_format("numpy")[:]
    images = np.stack(read["image"]).astype(np.float32) / INTENSITY_SCALE
    reference = np.stack(read["reference"]) if "reference" in read else np.stack(read["masks"])[:, 0]
    generators = sample_generators(seed, len(images))
    output: Any = pipeline(torch.from_numpy(images), generator=generators, **settings)
    drawn = displayed_channel(pipeline.modalities)
    kinds = read["lesion"] if "lesion" in read else np.where(reference.any(axis=(1, 2)), "anomaly", "none")
    edge = pipeline.config["spacing"] or 1.0
    return AnomalyResult(
        maps=output.anomaly_map,
        masks=output.mask > 0,
        scores=output.score,
        reference=reference > 0,
        head=images.max(axis=1) > 0,
        images=images[:, drawn],
        counterfactuals=output.counterfactual[..., drawn],
        lesions=[str(kind) for kind in kinds],
        subjects=[str(subject) for subject in read["subject"]],
        spacing=(edge, edge),
    )


def displayed_channel(modalities: Sequence[str]) -> int:
    """The number of the modality that images show."""
    return next((modalities.index(name) for name in SHOWN if name in modalities), 0)
