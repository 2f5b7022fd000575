"""Volumes of the left ventricle from label maps of one or two apical views, and the frames of end diastole and systole.

    area–length   V = 8 A² / (3π L)                   one view
    biplane       V = π/4 · Σ_i a_i b_i · L/20        method of discs, modified Simpson (Lang et al., JASE 2015)

a_i and b_i are the widths of the LV in the two views at the same twentieth of its length from base to apex; L is the
longer of the two lengths.
"""

from __future__ import annotations

import numpy as np

from meddiffusers.pipelines.meddiffusers_cardiac_attributes_v1 import CARDIAC_ATTRIBUTES, measure_cardiac_attributes
from meddiffusers.pipelines.meddiffusers_cardiac_labels_v1 import LV

DISCS = 20
SUBPIXELS = (np.stack(np.meshgrid(*2 * [np.arange(4)], indexing="ij"), axis=-1).reshape(-1, 2) - 1.5) / 4  # of a pixel
LENGTH, ORIENTATION = (list(CARDIAC_ATTRIBUTES).index(name) for name in ("lv_length", "orientation"))
Spacing = float | tuple[float, float]


def biplane_volumes(
    four_chamber: np.ndarray, four_spacing: Spacing, two_chamber: np.ndarray, two_spacing: Spacing
) -> np.ndarray:
    """Compute volumes by the biplane method of discs.

    Args:
        four_chamber: Label maps `(T, H, W)` of the apical four-chamber view.
        four_spacing: Its distances in mm between rows and between columns, or one number for both.
        two_chamber: Label maps `(T, H, W)` of the apical two-chamber view, at the same phases.
        two_spacing: As `four_spacing`.

    Returns:
        Volumes `(T,)` in ml; NaN where a view cannot be measured.

    Raises:
        ValueError: If the views differ in the number of frames.
    """
    if len(four_chamber) != len(two_chamber):
        raise ValueError(
            f"Got {len(four_chamber)} and {len(two_chamber)} frames; expected as many in both views. "
            "Resample them to the same phases."
        )
    views = disc_widths(four_chamber, four_spacing), disc_widths(two_chamber, two_spacing)
    widths, lengths = zip(*views, strict=True)
    return np.pi / 4 * (widths[0] * widths[1]).sum(axis=1) * np.maximum(*lengths) / DISCS / 1000


def disc_widths(labels: np.ndarray, spacing: Spacing) -> tuple[np.ndarray, np.ndarray]:
    """Measure the LV's widths across its long axis, in twenty discs of equal height.

    A disc's width is the area of the LV within it over its height, with subpixel accuracy.

    Args:
        labels: Label maps `(T, H, W)`.
        spacing: Distances in mm between rows and between columns, or one number for both.

    Returns:
        Widths `(T, 20)` from base to apex and lengths `(T,)`, in mm.
    """
    rows, columns = (spacing, spacing) if isinstance(spacing, int | float) else spacing
    attributes = measure_cardiac_attributes(labels, spacing)
    orientation = np.deg2rad(attributes[:, ORIENTATION])
    widths = np.full((len(labels), DISCS), np.nan)
    for t in np.flatnonzero(np.isfinite(orientation)):
        y, x = (np.repeat(pixels, len(SUBPIXELS)) for pixels in np.nonzero(labels[t] == LV))
        y, x = (each + np.tile(SUBPIXELS[:, axis], len(each) // len(SUBPIXELS)) for axis, each in enumerate((y, x)))
        along = x * columns * np.sin(orientation[t]) - y * rows * np.cos(orientation[t])
        height = (along.max() - along.min()) / DISCS
        discs = np.clip((along - along.min()) / height, 0, DISCS - 1e-6).astype(int)
        widths[t] = np.bincount(discs, minlength=DISCS) * rows * columns / len(SUBPIXELS) / height
    return widths, attributes[:, LENGTH]


def ed_es_frames(volumes: np.ndarray) -> tuple[int, int]:
    """Return the frames of end diastole and end systole: those of the largest and the smallest volume.

    Args:
        volumes: Volumes `(T,)`; NaN are ignored.

    Raises:
        ValueError: If no volume is finite.
    """
    if not np.isfinite(volumes).any():
        raise ValueError("No frame has a volume; expected label maps with an LV and a myocardium.")
    return int(np.nanargmax(volumes)), int(np.nanargmin(volumes))
