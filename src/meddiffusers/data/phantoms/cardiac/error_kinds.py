"""Kinds of segmentation errors: functions of a label map (H, W), its spacing in mm and a generator.

Each returns the corrupted label map and the parameters of the error.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from meddiffusers.data.phantoms.cardiac.error_shapes import (
    connected,
    distance,
    heart_axes,
    irregular_disc,
    paint,
    random_pixel,
)
from meddiffusers.data.phantoms.cardiac.labels import LV, MYO

Parameters = dict[str, float]
_Error = Callable[[np.ndarray, float, np.random.Generator], tuple[np.ndarray, Parameters]]


def _hole(
    frame: np.ndarray, label: int, other: int, spacing: float, rng: np.random.Generator, radius: float
) -> tuple[np.ndarray, Parameters]:
    """Put a blob of another label into the interior of a label."""
    depth = distance(frame == label, spacing)
    middle = random_pixel(depth > min(radius + spacing, 0.9 * depth.max()), rng)
    radius = min(radius, depth[middle] - 1.5 * spacing)
    blob = irregular_disc(frame.shape, middle, radius, spacing, rng) & (depth > 1.5 * spacing)
    blob[middle] = True
    return paint(frame, blob, other), {"radius": float(max(radius, spacing / 2)), "label": other}


def _hole_lv(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    return _hole(frame, LV, int(rng.choice([0, MYO])), spacing, rng, rng.uniform(3.5, 9))


def _hole_myo(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    return _hole(frame, MYO, int(rng.choice([0, LV])), spacing, rng, rng.uniform(2, 5))


def _jump(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    direction, size = rng.uniform(0, 2 * np.pi), rng.uniform(7, 15)
    x, y = size * np.cos(direction), size * np.sin(direction)
    shifted = ndimage.shift(frame, (y / spacing, x / spacing), order=0)
    return shifted, {"x": float(x), "y": float(y)}


def _rotate(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    degrees = rng.choice([-1, 1]) * rng.uniform(10, 20)
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    inverse = np.array([[cosine, -sine], [sine, cosine]])
    middle = np.argwhere((frame == LV) | (frame == MYO)).mean(axis=0)
    rotated = ndimage.affine_transform(frame, inverse, middle - inverse @ middle, order=0)
    return rotated, {"degrees": float(degrees)}  # positive: apex to the right


def _lv_over(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    margin = rng.uniform(2.5, 5)
    return paint(frame, (frame == MYO) & (distance(frame != LV, spacing) <= margin), LV), {"margin": margin}


def _lv_under(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    margin = rng.uniform(2.5, 5)
    return paint(frame, (frame == LV) & (distance(frame != MYO, spacing) <= margin), MYO), {"margin": margin}


def _leak(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    radius = rng.uniform(8, 13)
    upward, _ = heart_axes(frame)
    above_base = upward > np.quantile(upward[frame == LV], 0.25)
    rim = (frame == MYO) & (distance(frame != 0, spacing) <= 2 * spacing) & above_base
    blob = irregular_disc(frame.shape, random_pixel(rim, rng), radius, spacing, rng) & ((frame == MYO) | (frame == 0))
    return paint(frame, connected(blob | (frame == LV), frame == LV), LV), {"radius": radius}


def _fragment(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    radius, label = rng.uniform(4, 9), int(rng.choice([LV, MYO]))
    free = distance(frame == 0, spacing)
    near = (free > min(radius * 1.5, 0.9 * free.max())) & (free < 40)
    blob = irregular_disc(frame.shape, random_pixel(near, rng), radius, spacing, rng) & (free > 2 * spacing)
    return paint(frame, blob, label), {"radius": radius, "label": label}


def _apex_cut(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    share = rng.uniform(0.15, 0.3)
    upward, _ = heart_axes(frame)
    low, high = upward[frame == LV].min(), upward[frame == LV].max()
    return paint(frame, upward > high - share * (high - low), 0), {"share": share}


def _missing_myo(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    side, share, start = int(rng.choice([-1, 1])), rng.uniform(0.35, 0.7), rng.uniform(0, 0.3)
    upward, rightward = heart_axes(frame)
    low, high = upward[frame == MYO].min(), upward[frame == MYO].max()
    within = np.abs((upward - low) / (high - low) - start - share / 2) <= share / 2
    removed = (frame == MYO) & (side * rightward > 0) & within
    return paint(frame, removed, 0), {"side": side, "start": start, "share": share}


def _border_noise(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    size = rng.uniform(1.5, 2.5)
    waves = ndimage.gaussian_filter(rng.standard_normal((2, *frame.shape)), (0, 2.5 / spacing, 2.5 / spacing))
    waves *= size / spacing / waves.std()
    return ndimage.map_coordinates(frame, np.indices(frame.shape) + waves, order=0, mode="nearest"), {"size": size}


ERRORS: dict[str, _Error] = {
    "hole_lv": _hole_lv,
    "hole_myo": _hole_myo,
    "jump": _jump,
    "rotate": _rotate,
    "lv_over": _lv_over,
    "lv_under": _lv_under,
    "leak": _leak,
    "fragment": _fragment,
    "apex_cut": _apex_cut,
    "missing_myo": _missing_myo,
    "border_noise": _border_noise,
}
