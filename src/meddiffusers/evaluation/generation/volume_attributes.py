"""What a drawn brain measures: a `SliceAttributePredictor` finds its regions on axial slices, and brain tissue is what is bright.

| covariate | measured |
|---|---|
| ventricular_volume_ml | voxels read as ventricles, lateral, third and fourth |
| brain_volume_ml | voxels above Otsu's threshold (1979), of T1-weighted volumes without skull |
| another number | ridge regression on the regions' volumes, fitted to known volumes that were read alike |
| another word | logistic regression on the same |

The threshold is nearer to the tissue of phantoms than what the reader finds, and is not misled by volumes that are a
little smoother than those that the reader knows, whose sulci it takes for cortex.
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
PENALTIES = tuple(10.0**power for power in range(-2, 5))  # of the ridge regression, which chooses by cross-validation
BATCH = 32


@dataclass
class VolumeMeasurements:
    """`regions`, ml (N,) of every label that the reader knows; `tissue`, ml (N,) of what is bright."""

    regions: dict[int, np.ndarray]
    tissue: np.ndarray


@torch.inference_mode()
def measure_volumes(
    reader: SliceAttributePredictor, volumes: np.ndarray, spacing: float, size: int = 96
) -> VolumeMeasurements:
    """Of T1-weighted volumes (N, X, Y, Z) in [0, 1], RAS.

    spacing: mm of a voxel. size: pixels of a side that the reader was trained on, over `FIELD_OF_VIEW`.
    """
    ids = [int(label) for label in reader.config["label_ids"]]
    ml = (FIELD_OF_VIEW / size) ** 2 * spacing / 1000
    counts = np.zeros((len(volumes), len(ids)))
    for number, volume in enumerate(tqdm(volumes, desc="Reading", leave=False)):
        images = axial_images(volume, spacing, size)
        shown = images[images.flatten(1).any(dim=1)]  # nothing is read of a black slice
        for part in shown.split(BATCH):
            labels = reader(part.to(reader.device, reader.dtype)).logits.argmax(dim=1)
            counts[number] += np.bincount(labels.flatten().cpu().numpy(), minlength=len(ids))
    bright = [(volume > threshold_otsu(volume)).sum() if volume.any() else 0 for volume in volumes]
    regions = {label: counts[:, place] * ml for place, label in enumerate(ids)}
    return VolumeMeasurements(regions, np.array(bright) * spacing**3 / 1000)


class CovariateEstimator:
    """Measures a covariate of volumes that were read.

    name: of the covariate. known, values: known volumes and theirs, to learn from what cannot be counted.
    """

    def __init__(self, name: str, known: VolumeMeasurements, values: Sequence[Any]) -> None:
        self.name, self.estimator = name, None
        if name not in COUNTED:
            last = LogisticRegression() if isinstance(values[0], str) else RidgeCV(PENALTIES)
            self.estimator = make_pipeline(StandardScaler(), last).fit(_features(known), list(values))

    def __call__(self, read: VolumeMeasurements) -> np.ndarray:
        """(N,), in the covariate's own units, or words."""
        if self.estimator is not None:
            return self.estimator.predict(_features(read))
        if self.name == "brain_volume_ml":
            return read.tissue
        return np.sum([read.regions[label] for label in VENTRICLES if label in read.regions], axis=0)


def _features(read: VolumeMeasurements) -> np.ndarray:
    """Volumes of regions and their logarithms, (N, 2·L)."""
    ml = np.stack([volumes for label, volumes in sorted(read.regions.items()) if label], axis=1)
    return np.concatenate([ml, np.log1p(ml)], axis=1)


def axial_images(volume: np.ndarray, spacing: float, size: int) -> torch.Tensor:
    """(Z, 1, size, size) float32 in [0, 1] of a volume (X, Y, Z), RAS, as training slices of phantoms are cut.

    Rows run from front to back and columns from the head's right to its left; each slice is normalised by itself.
    """
    upright = torch.from_numpy(np.ascontiguousarray(volume[::-1, ::-1].transpose(2, 1, 0), np.float32))[:, None]
    sides = [max(1, round(side * spacing * size / FIELD_OF_VIEW)) for side in upright.shape[2:]]
    scaled = F.interpolate(upright, sides, mode="bilinear", antialias=True, align_corners=False)
    left, top = ((size - side) // 2 for side in reversed(sides))
    padded = F.pad(scaled, (left, size - sides[1] - left, top, size - sides[0] - top))
    return torch.from_numpy(normalise_to_int16(padded[:, 0].numpy()).astype(np.float32) / INTENSITY_SCALE)[:, None]
