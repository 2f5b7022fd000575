"""Volumes of the left ventricle from its outlines in one or two apical views, and when it is largest and smallest.

    area–length   V = 8 A² / (3π L)                                    one view
    biplane       V = π/4 · Σ_i a_i b_i · L/20                         Simpson's twenty discs: Lang et al., JASE 2015

a_i and b_i are the cavity's widths in the two views, at the same twentieth of its length from base to apex; L is the
longer of the two lengths.
"""

from __future__ import annotations

import numpy as np

from meddiffusers.pipelines.meddiffusers_heart_shapes_v1 import (
    CARDIAC_ATTRIBUTES,
    CAVITY,
    measure_hearts,
)

DISCS = 20
WITHIN = (np.stack(np.meshgrid(*2 * [np.arange(4)], indexing="ij"), axis=-1).reshape(-1, 2) - 1.5) / 4  # of a pixel
LENGTH, ORIENTATION = (list(CARDIAC_ATTRIBUTES).index(name) for name in ("lv_length", "orientation"))
Spacing = float | tuple[float, float]


def biplane_volumes(four: np.ndarray, four_spacing: Spacing, two: np.ndarray, two_spacing: Spacing) -> np.ndarray:
    """(T,) ml of two views' label maps (T, H, W), frame by frame.

    Raises:
        ValueError: another number of frames in one view than in the other.
    """
    if len(four) != len(two):
        raise ValueError(
            f"Got {len(four)} and {len(two)} frames; expected as many in both views. Bring them to the same phases."
        )
    widths, lengths = zip(disc_widths(four, four_spacing), disc_widths(two, two_spacing), strict=True)
    return np.pi / 4 * (widths[0] * widths[1]).sum(axis=1) * np.maximum(*lengths) / DISCS / 1000


def disc_widths(labels: np.ndarray, spacing: Spacing) -> tuple[np.ndarray, np.ndarray]:
    """Widths (T, 20) across the long axis from base to apex, and lengths (T,), mm.

    A disc's width is the cavity's area between its two faces over its height, so that pixels do not show.
    """
    rows, columns = (spacing, spacing) if isinstance(spacing, int | float) else spacing
    attributes = measure_hearts(labels, spacing)
    lean = np.deg2rad(attributes[:, ORIENTATION])
    widths = np.full((len(labels), DISCS), np.nan)
    for number in np.flatnonzero(np.isfinite(lean)):
        y, x = (np.repeat(place, len(WITHIN)) for place in np.nonzero(labels[number] == CAVITY))
        y, x = (place + np.tile(WITHIN[:, axis], len(place) // len(WITHIN)) for axis, place in enumerate((y, x)))
        up = x * columns * np.sin(lean[number]) - y * rows * np.cos(lean[number])
        height = (up.max() - up.min()) / DISCS
        places = np.clip((up - up.min()) / height, 0, DISCS - 1e-6).astype(int)
        widths[number] = np.bincount(places, minlength=DISCS) * rows * columns / len(WITHIN) / height
    return widths, attributes[:, LENGTH]


def key_frames(volumes: np.ndarray) -> tuple[int, int]:
    """End diastole and end systole: the frames of the largest and the smallest volume (T,); NaN do not count.

    Raises:
        ValueError: no volume is known.
    """
    if not np.isfinite(volumes).any():
        raise ValueError("No frame has a volume; expected label maps with a cavity and a wall.")
    return int(np.nanargmax(volumes)), int(np.nanargmin(volumes))
