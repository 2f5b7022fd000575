"""What a drawn brain measures: a `PictureReader` looks at its axial slices, and its own errors are in the figures.

| figure | of |
|---|---|
| ventricular_volume_ml | voxels read as lateral ventricles |
| brain_volume_ml | voxels read as any region but fluid |
| age | mean over the slices within `AGE_HEIGHTS` of the middle |
| sex | the same, of the logit: "M" where it is above 0 |
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from meddiffusers.data.brain_phantom.subject import FIELD_OF_VIEW
from meddiffusers.data.regions import LATERAL_VENTRICLES
from meddiffusers.data.segmentation_slices import INTENSITY_SCALE, stored
from meddiffusers.models.picture_reader import NUMBERS, PictureReader

FLUID = (0, 14, 15, 24, *LATERAL_VENTRICLES)  # third and fourth ventricle and fluid about the brain; 0 is outside
AGE_HEIGHTS = 30.0  # mm above and below the middle
BATCH = 32


@torch.inference_mode()
def read_volumes(reader: PictureReader, volumes: np.ndarray, spacing: float, size: int = 96) -> dict[str, np.ndarray]:
    """Measures (N,) by name of T1-weighted volumes (N, X, Y, Z) in [0, 1], RAS, on voxels of `spacing` mm.

    size: pixels of a side that the reader was trained on, over `FIELD_OF_VIEW`.
    """
    found: dict[str, list[float]] = {"ventricular_volume_ml": [], "brain_volume_ml": [], "age": [], "male": []}
    ids = np.array(reader.config["label_ids"])
    edge = FIELD_OF_VIEW / size
    ml = edge * edge * spacing / 1000
    for volume in volumes:
        pictures = axial_pictures(volume, spacing, size)
        parts = [reader(part.to(reader.device, reader.dtype)) for part in pictures.split(BATCH)]
        labels = ids[torch.cat([part.logits.argmax(dim=1) for part in parts]).cpu().numpy()]
        shown = pictures.flatten(1).any(dim=1).numpy()  # nothing is read of a black slice
        labels[~shown] = 0
        numbers = torch.cat([part.numbers for part in parts]).float().cpu().numpy()
        heights = (np.arange(len(numbers)) - (len(numbers) - 1) / 2) * spacing
        middle = shown & (np.abs(heights) <= AGE_HEIGHTS)
        names = list(NUMBERS)
        found["ventricular_volume_ml"].append(float(np.isin(labels, LATERAL_VENTRICLES).sum() * ml))
        found["brain_volume_ml"].append(float((~np.isin(labels, FLUID)).sum() * ml))
        for name in ("age", "male"):
            values = numbers[middle, names.index(name)]
            found[name].append(float(values.mean()) if len(values) else float("nan"))
    return {name: np.array(values) for name, values in found.items()}


def axial_pictures(volume: np.ndarray, spacing: float, size: int) -> torch.Tensor:
    """(Z, 1, size, size) float32 in [0, 1] of a volume (X, Y, Z), RAS, as training slices of phantoms are cut.

    Rows run from front to back and columns from the head's right to its left; each slice is normalised by itself.
    """
    upright = torch.from_numpy(np.ascontiguousarray(volume[::-1, ::-1].transpose(2, 1, 0), np.float32))[:, None]
    sides = [max(1, round(side * spacing * size / FIELD_OF_VIEW)) for side in upright.shape[2:]]
    scaled = F.interpolate(upright, sides, mode="bilinear", antialias=True, align_corners=False)
    left, top = ((size - side) // 2 for side in reversed(sides))
    padded = F.pad(scaled, (left, size - sides[1] - left, top, size - sides[0] - top))
    return torch.from_numpy(stored(padded[:, 0].numpy()).astype(np.float32) / INTENSITY_SCALE)[:, None]
