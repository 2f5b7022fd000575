"""Mistakes that segmentation networks make on single frames, put into clean label maps with a record of each.

hole_lv, hole_myo     a hole of another label inside the cavity, inside the wall
jump, rotate          the whole heart displaced, or turned about its middle
lv_over, lv_under     the cavity grown into the wall, or the wall into the cavity
leak                  the cavity spills through the wall into the background
fragment              a loose piece of cavity or wall in the background
apex_cut              the apex missing
missing_myo           the wall missing on one side, over part of its length
border_noise          all borders ragged

Lengths are in mm, so that an error is as large on any grid. Labels: 1 cavity, 2 wall, 3 atrium.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from meddiffusers.data.cardiac_phantom.labels import ATRIUM, CAVITY, WALL

Parameters = dict[str, float]
_Error = Callable[[np.ndarray, float, np.random.Generator], tuple[np.ndarray, Parameters]]


@dataclass(frozen=True)
class InjectedError:
    """Which frame was spoilt, by which kind of error, with what numbers: mm, degrees, labels."""

    frame: int
    kind: str
    parameters: Parameters


def corrupted(
    sequence: np.ndarray, spacing: float, seed: int, rate: float, kinds: Sequence[str] | None = None
) -> tuple[np.ndarray, list[InjectedError]]:
    """A copy of label maps (F, H, W), each frame spoilt with probability `rate` by one of the kinds, and the record.

    spacing: mm; kinds: of `ERROR_KINDS`, all by default, equally likely. Frames outside the record are untouched, all
    others differ from what they were.

    Raises:
        ValueError: another number of axes, a spacing not above 0, a rate outside [0, 1], no kind or an unknown one, a
            frame without cavity or wall.
    """
    kinds = ERROR_KINDS if kinds is None else tuple(kinds)
    _check(sequence, spacing, rate, kinds)
    rng = np.random.default_rng(seed)
    result, record = sequence.copy(), []
    for index, frame in enumerate(sequence):
        if rng.random() < rate:
            kind = kinds[rng.integers(len(kinds))]
            result[index], parameters = spoilt(frame, kind, spacing, rng)
            record.append(InjectedError(index, kind, parameters))
    return result, record


def spoilt(frame: np.ndarray, kind: str, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    """One frame (H, W) with one error, and its numbers; drawn again where so coarse a grid does not show it."""
    while True:
        wrong, parameters = _ERRORS[kind](frame, spacing, rng)
        if not np.array_equal(wrong, frame):
            return wrong, parameters


def _check(sequence: np.ndarray, spacing: float, rate: float, kinds: Sequence[str]) -> None:
    if sequence.ndim != 3:
        raise ValueError(f"Label maps to be spoilt have shape {sequence.shape}; expected (F, H, W).")
    if not spacing > 0 or not 0 <= rate <= 1:
        raise ValueError(f"Got spacing = {spacing} and rate = {rate}; expected mm above 0, and 0 to 1.")
    unknown = set(kinds) - set(ERROR_KINDS)
    if unknown or not kinds:
        raise ValueError(
            f"Got the error kinds {', '.join(kinds) or 'none'}; expected some of {', '.join(ERROR_KINDS)}."
        )
    for index, frame in enumerate(sequence):
        if not (frame == CAVITY).any() or not (frame == WALL).any():
            raise ValueError(f"Frame {index} has no cavity (1) or no wall (2); expected clean label maps.")


def _hole(frame: np.ndarray, label: int, other: int, spacing: float, rng: np.random.Generator, radius: float) -> tuple:
    """A blob of another label that stays within the label, so that it is surrounded by it."""
    depth = _distance(frame == label, spacing)
    middle = _pick(depth > min(radius + spacing, 0.9 * depth.max()), rng)
    radius = min(radius, depth[middle] - 1.5 * spacing)
    blob = _blob(frame.shape, middle, radius, spacing, rng) & (depth > 1.5 * spacing)
    blob[middle] = True
    return _painted(frame, blob, other), {"radius": float(max(radius, spacing / 2)), "label": other}


def _hole_lv(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    return _hole(frame, CAVITY, int(rng.choice([0, WALL])), spacing, rng, rng.uniform(3.5, 9))


def _hole_myo(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    return _hole(frame, WALL, int(rng.choice([0, CAVITY])), spacing, rng, rng.uniform(2, 5))


def _jump(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    direction, size = rng.uniform(0, 2 * np.pi), rng.uniform(7, 15)
    x, y = size * np.cos(direction), size * np.sin(direction)
    moved = ndimage.shift(frame, (y / spacing, x / spacing), order=0)
    return moved, {"x": float(x), "y": float(y)}


def _rotate(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    degrees = rng.choice([-1, 1]) * rng.uniform(10, 20)
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    back = np.array([[cosine, -sine], [sine, cosine]])
    middle = np.argwhere((frame == CAVITY) | (frame == WALL)).mean(axis=0)
    turned = ndimage.affine_transform(frame, back, middle - back @ middle, order=0)
    return turned, {"degrees": float(degrees)}  # positive turns the apex to the right


def _lv_over(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    margin = rng.uniform(2.5, 5)
    return _painted(frame, (frame == WALL) & (_distance(frame != CAVITY, spacing) <= margin), CAVITY), {
        "margin": margin
    }


def _lv_under(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    margin = rng.uniform(2.5, 5)
    return _painted(frame, (frame == CAVITY) & (_distance(frame != WALL, spacing) <= margin), WALL), {"margin": margin}


def _leak(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    radius = rng.uniform(8, 13)
    rim = (frame == WALL) & (_distance(frame != 0, spacing) <= 2 * spacing) & (_distance(frame != ATRIUM, spacing) > 25)
    blob = _blob(frame.shape, _pick(rim, rng), radius, spacing, rng) & ((frame == WALL) | (frame == 0))
    spilt = _connected(blob | (frame == CAVITY), frame == CAVITY)
    return _painted(frame, spilt, CAVITY), {"radius": radius}


def _fragment(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    radius, label = rng.uniform(4, 9), int(rng.choice([CAVITY, WALL]))
    free = _distance(frame == 0, spacing)
    near = (free > min(radius * 1.5, 0.9 * free.max())) & (free < 40)
    blob = _blob(frame.shape, _pick(near, rng), radius, spacing, rng) & (free > 2 * spacing)
    return _painted(frame, blob, label), {"radius": radius, "label": label}


def _apex_cut(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    share = rng.uniform(0.15, 0.3)
    upward, _ = _heart_axes(frame)
    low, high = upward[frame == CAVITY].min(), upward[frame == CAVITY].max()
    return _painted(frame, upward > high - share * (high - low), 0), {"share": share}


def _missing_myo(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    side, share, start = int(rng.choice([-1, 1])), rng.uniform(0.35, 0.7), rng.uniform(0, 0.3)
    upward, rightward = _heart_axes(frame)
    low, high = upward[frame == WALL].min(), upward[frame == WALL].max()
    within = np.abs((upward - low) / (high - low) - start - share / 2) <= share / 2
    gone = (frame == WALL) & (side * rightward > 0) & within
    return _painted(frame, gone, 0), {"side": side, "start": start, "share": share}


def _border_noise(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    size = rng.uniform(1.5, 2.5)
    waves = ndimage.gaussian_filter(rng.standard_normal((2, *frame.shape)), (0, 2.5 / spacing, 2.5 / spacing))
    waves *= size / spacing / waves.std()
    return ndimage.map_coordinates(frame, np.indices(frame.shape) + waves, order=0, mode="nearest"), {"size": size}


_ERRORS: dict[str, _Error] = {
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
ERROR_KINDS = tuple(_ERRORS)


def _painted(frame: np.ndarray, where: np.ndarray, label: int) -> np.ndarray:
    return np.where(where, label, frame).astype(frame.dtype)


def _pick(where: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    places = np.argwhere(where)
    row, column = places[rng.integers(len(places))]
    return int(row), int(column)


def _distance(mask: np.ndarray, spacing: float) -> np.ndarray:
    """mm from each pixel of the mask to the nearest one outside it; 0 outside."""
    return ndimage.distance_transform_edt(mask, sampling=spacing)


def _connected(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The parts of the mask that hold a seed."""
    parts, _ = ndimage.label(mask)
    return mask & np.isin(parts, np.unique(parts[seeds & mask]))


def _blob(
    shape: tuple[int, ...], middle: tuple[int, int], radius: float, spacing: float, rng: np.random.Generator
) -> np.ndarray:
    """A lumpy disc around a pixel, whose radius varies by a quarter or so."""
    rows, columns = np.indices(shape)
    y, x = (rows - middle[0]) * spacing, (columns - middle[1]) * spacing
    angle = np.arctan2(y, x)
    waves = sum(rng.normal(0, 0.1) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4))
    return np.hypot(x, y) <= radius * np.clip(1 + waves, 0.6, 1.4)


def _heart_axes(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel's place along the cavity's long axis, towards its upper end, and to the right of it, in pixels."""
    places = np.argwhere(frame == CAVITY)
    middle = places.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov((places - middle).T))
    up = vectors[:, 1] * -np.sign(vectors[0, 1])
    rows, columns = np.indices(frame.shape)
    y, x = rows - middle[0], columns - middle[1]
    return y * up[0] + x * up[1], x * -up[0] + y * up[1]
