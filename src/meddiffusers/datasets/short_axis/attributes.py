"""Shape attributes of the left ventricle in short-axis slices, where it is a ring that has neither base nor length.

| attribute | meaning | unit |
|---|---|---|
| lv_area | area of the left-ventricular cavity (LV) | mm² |
| myo_area | area of the myocardium (MYO) | mm² |
| epi_x, epi_y | centre of mass of LV and MYO: right of the image's middle, below its upper edge | mm |

They are defined as those of apical views (`meddiffusers_cardiac_attributes_v1`).
"""

from __future__ import annotations

import numpy as np

from meddiffusers.pipelines.meddiffusers_cardiac_labels_v1 import LV, MYO

SHORT_AXIS_ATTRIBUTES = {"lv_area": "mm²", "myo_area": "mm²", "epi_x": "mm", "epi_y": "mm"}


def measure_short_axis(labels: np.ndarray, spacing: float = 1.0) -> np.ndarray:
    """Measure the four attributes in each slice.

    Args:
        labels: Label maps `(B, H, W)`: 0 background, 1 LV, 2 myocardium.
        spacing: Edge length of a pixel in mm.

    Returns:
        Attributes `(B, 4)` in the order of `SHORT_AXIS_ATTRIBUTES`; NaN for slices without LV or without MYO.

    Raises:
        ValueError: If `labels` has another number of axes, or the spacing is not positive.
    """
    if labels.ndim != 3 or not spacing > 0:
        raise ValueError(
            f"Got label maps of shape {labels.shape} and spacing {spacing}; expected (B, H, W), and mm above 0."
        )
    lv, myo = (np.count_nonzero(labels == label, axis=(1, 2)) for label in (LV, MYO))
    ring = np.isin(labels, (LV, MYO))
    y, x = (np.arange(side) + 0.5 for side in labels.shape[1:])
    with np.errstate(invalid="ignore", divide="ignore"):
        epi_x = (ring.sum(axis=1) @ x) / (lv + myo) - labels.shape[2] / 2
        epi_y = (ring.sum(axis=2) @ y) / (lv + myo)
    values = np.stack([lv * spacing**2, myo * spacing**2, epi_x * spacing, epi_y * spacing], axis=1)
    values[(lv == 0) | (myo == 0)] = np.nan
    return values
