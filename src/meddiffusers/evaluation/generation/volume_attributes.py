"""Measure the covariates of generated brain volumes with an independent predictor and a threshold.

A `SliceAttributePredictor` segments the regions on axial slices; brain tissue is what exceeds a threshold.

| covariate | measured by |
|---|---|
| ventricular_volume_ml | voxels predicted as lateral, third and fourth ventricles |
| brain_volume_ml | voxels above Otsu's threshold (1979) in T1-weighted volumes without skull |
| other numbers | ridge regression on the predicted volumes of regions, fitted on training volumes |
| other categories | logistic regression on the same |

For brain tissue the threshold is more accurate on phantoms than the predictor, which takes sulci for cortex in volumes
that are slightly smoother than its training data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from skimage.filters import threshold_otsu
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm.auto import tqdm

from meddiffusers.data.phantoms.brain.phantom import FIELD_OF_VIEW
from meddiffusers.data.regions import VENTRICLES
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE, normalise_to_int16
from meddiffusers.models.slice_attribute_predictor import SliceAttributePredictor

COUNTED = ("ventricular_volume_ml", "brain_volume_ml")
PENALTIES = tuple(10.0**power for power in range(-2, 5))  # of the ridge regression, chosen by cross-validation
BATCH = 32


@dataclass
class VolumeMeasurements:
    """Measured volumes of B brains.

    Args:
        regions: Volume in ml, (B,), of each label of the predictor.
        tissue: Volume in ml, (B,), of brain tissue.
    """

    regions: dict[int, np.ndarray]
    tissue: np.ndarray


@torch.inference_mode()
def measure_volumes(
    predictor: SliceAttributePredictor, volumes: np.ndarray, spacing: float, size: int = 96
) -> VolumeMeasurements:
    """Measure T1-weighted brain volumes.

    Args:
        predictor: The attribute predictor.
        volumes: (B, X, Y, Z) in [0, 1], RAS.
        spacing: Voxel spacing in mm.
        size: Pixels along a side of the predictor's training images, which cover `FIELD_OF_VIEW`.
    """
    ids = [int(label) for label in predictor.config["label_ids"]]
    ml = (FIELD_OF_VIEW / size) ** 2 * spacing / 1000
    counts = np.zeros((len(volumes), len(ids)))
    for i, volume in enumerate(tqdm(volumes, desc="Measuring", leave=False)):
        images = axial_images(volume, spacing, size)
        nonzero = images[images.flatten(1).any(dim=1)]  # skip black slices
        for batch in nonzero.split(BATCH):
            labels = predictor(batch.to(predictor.device, predictor.dtype)).logits.argmax(dim=1)
            counts[i] += np.bincount(labels.flatten().cpu().numpy(), minlength=len(ids))
    bright = [(volume > threshold_otsu(volume)).sum() if volume.any() else 0 for volume in volumes]
    regions = {label: counts[:, i] * ml for i, label in enumerate(ids)}
    return VolumeMeasurements(regions, np.array(bright) * spacing**3 / 1000)


class CovariateEstimator:
    """Estimate a covariate from measured volumes.

    Args:
        name: Name of the covariate.
        known: Measurements of training volumes, for covariates that are estimated by regression.
        values: The covariate of the training volumes.
    """

    def __init__(self, name: str, known: VolumeMeasurements, values: Sequence[Any]) -> None:
        self.name, self.estimator = name, None
        if name not in COUNTED:
            last = LogisticRegression() if isinstance(values[0], str) else RidgeCV(PENALTIES)
            self.estimator = make_pipeline(StandardScaler(), last).fit(_features(known), list(values))

    def __call__(self, measured: VolumeMeasurements) -> np.ndarray:
        """Estimate the covariate of B volumes: (B,) in its own unit, or categories."""
        if self.estimator is not None:
            return self.estimator.predict(_features(measured))
        if self.name == "brain_volume_ml":
            return measured.tissue
        return np.sum([measured.regions[label] for label in VENTRICLES if label in measured.regions], axis=0)


def _features(measured: VolumeMeasurements) -> np.ndarray:
    """Volumes of L regions and their logarithms, (B, 2·L)."""
    ml = np.stack([volumes for label, volumes in sorted(measured.regions.items()) if label], axis=1)
    return np.concatenate([ml, np.log1p(ml)], axis=1)


def axial_images(volume: np.ndarray, spacing: float, size: int) -> torch.Tensor:
    """Cut an RAS volume (X, Y, Z) into axial slices, in the same way as the training slices of phantoms.

    Returns:
        (Z, 1, size, size) float32 in [0, 1], each slice normalised by itself. Rows run from anterior to posterior,
        columns from the right of the head to its left.
    """
    upright = torch.from_numpy(np.ascontiguousarray(volume[::-1, ::-1].transpose(2, 1, 0), np.float32))[:, None]
    sides = [max(1, round(side * spacing * size / FIELD_OF_VIEW)) for side in upright.shape[2:]]
    scaled = F.interpolate(upright, sides, mode="bilinear", antialias=True, align_corners=False)
    left, top = ((size - side) // 2 for side in reversed(sides))
    padded = F.pad(scaled, (left, size - sides[1] - left, top, size - sides[0] - top))
    return torch.from_numpy(normalise_to_int16(padded[:, 0].numpy()).astype(np.float32) / INTENSITY_SCALE)[:, None]
