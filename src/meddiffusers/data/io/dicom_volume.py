"""Assemble DICOM images into a volume of evenly spaced slices, or a sequence of frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from meddiffusers.data.io.dicom_frames import Frame
from meddiffusers.data.io.library_errors import UnreadableError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
UNEVEN = 0.02  # tolerance relative to the median gap
ROUNDINGS = (0.1, 0.01)  # mm, to which scanners round positions
FINE = 3.9  # gaps of fewer roundings cannot be distinguished from missing slices
SAME_PLACE = 1e-3  # mm
ROUNDED = 0.1  # mm, tolerance of the positions of a straight stack
TIE = 1e-6
EXACT = 2**53  # largest integer of float64
LISTED = 8  # volumes in a message
SPLIT = "put each volume into a folder of its own"


def slice_order(frames: Sequence[Frame], source: str) -> list[int]:
    """Indices of the frames sorted along the normal of their planes, row × column.

    Raises:
        UnreadableError: no positions, planes that are not parallel or differ in size, gaps that differ by more than 2 %
            of their median, or several images at one position.
    """
    check_frames(frames, source)
    if len(frames) == 1:
        return [0]
    if any(frame.position is None for frame in frames):
        raise UnreadableError(source, f"{len(frames)} slices without position", "positions to sort them by")
    places = np.array([frame.position for frame in frames])
    heights = places @ normal(frames[0])
    order = np.argsort(heights, kind="stable")
    gaps = np.diff(heights[order])
    counts = ", ".join(f"{count}× {gap:g} mm" for gap, count in Counter(np.round(gaps, 3).tolist()).most_common(8))
    if (gaps < SAME_PLACE).any():
        found = f"{len(frames)} slices at {1 + (gaps >= SAME_PLACE).sum()} positions (gaps {counts})"
        raise UnreadableError(source, found, "one slice at each: time points, echoes or copies are mixed", SPLIT)
    median = float(np.median(gaps))
    rounding = _rounding(places, float(gaps.mean()))
    error = rounding * float(np.abs(normal(frames[0])).sum())
    rounded = rounding > 0 and _is_even(heights[order], error, rounding)
    if not rounded and (np.abs(gaps - median) > UNEVEN * median).any():
        remedy = "look for missing slices, or resample them"
        raise UnreadableError(source, f"slices with uneven gaps: {counts}", f"{median:g} mm between all", remedy)
    line = np.linspace(places[order[0]], places[order[-1]], len(order))
    if np.abs(places[order] - line).max() > max(UNEVEN * median, 10 * SAME_PLACE, 2 * rounding):
        raise UnreadableError(source, "slices shifted sideways", "slices on one straight line", SPLIT)
    return order.tolist()


def chosen_volume(frames: Sequence[Frame], volume: int | None, source: str) -> list[Frame]:
    """Frames of one volume of a multi-frame file: those whose indices outside space are alike.

    Args:
        frames: of one file.
        volume: number of the volume, from 0; None if the frames are a single one.
        source: for messages.

    Raises:
        UnreadableError: several volumes and none chosen, or a volume that does not exist.
    """
    places = [(frame.position, frame.orientation) for frame in frames if frame.position is not None]
    apart = len({tuple(np.round(np.concatenate(place), 3)) for place in places}) == len(places)
    parallel = all(np.allclose(frame.orientation, frames[0].orientation, atol=1e-3) for frame in frames)
    if volume is None and apart and parallel:
        return list(frames)
    counts = {name: len({frame.volume.get(name) for frame in frames}) for name in frames[0].volume}
    names = [name for name, count in counts.items() if 1 < count < len(frames)]
    keys = [tuple(frame.volume.get(name, 0) for name in names) for frame in frames]
    volumes = sorted(set(keys))
    if len(volumes) == 1 and not volume:
        return list(frames)
    if volume is None or not 0 <= volume < len(volumes):
        listed = [", ".join(f"{name} {index}" for name, index in zip(names, key, strict=True)) for key in volumes]
        found = "; ".join(f"{number}: {text}" for number, text in enumerate(listed[:LISTED]))
        found = f"{len(volumes)} volume(s) ({found}{'; …' * (len(listed) > LISTED)})"
        raise UnreadableError(source, found, "one of them", "choose it by its number: read(path, volume=0)")
    return [frame for frame, key in zip(frames, keys, strict=True) if key == volumes[volume]]


def _rounding(places: np.ndarray, gap: float) -> float:
    """Largest error in mm of positions that were rounded to tenths or hundredths; 0 for finer ones, or fine gaps."""
    rounded = (
        step for step in ROUNDINGS if gap >= FINE * step and np.abs(places / step - np.rint(places / step)).max() < 1e-3
    )
    return next(rounded, 0.0) / 2


def _is_even(heights: np.ndarray, error: float, rounding: float) -> bool:
    """Whether sorted heights are evenly spaced, apart from an error of each through rounding (mm, half a step).

    Gaps that are a multiple of the step lead to no error: then a difference as large as a step is real.
    """
    numbers, mean = np.arange(len(heights)), (heights[-1] - heights[0]) / (len(heights) - 1)
    gaps = mean + np.linspace(-2, 2, 501) * error / (len(heights) - 1)
    spreads = np.ptp(heights - np.outer(gaps, numbers), axis=1)
    steps = gaps[spreads.argmin()] / (2 * rounding)
    tie = TIE if abs(steps - round(steps)) > TIE else -TIE
    return bool(spreads.min() < 2 * error + tie)


def check_frames(frames: Sequence[Frame], source: str) -> None:
    """Raise UnreadableError unless all frames have the same valid size, spacing and orientation."""
    first = frames[0]
    for frame in frames:
        row, column = frame.orientation.reshape(2, 3)
        skew = [row @ row - 1, column @ column - 1, row @ column]
        if not np.abs(skew).max() < 1e-3 or not min(frame.spacing[:2]) > 0:
            found = f"the orientation {frame.orientation.tolist()} and spacing {frame.spacing}"
            raise UnreadableError(source, found, "two unit vectors at right angles, and lengths in mm")
        if frame.position is not None and not np.isfinite(frame.position).all():
            raise UnreadableError(source, f"the position {frame.position.tolist()}", "three numbers, mm")
        if not np.allclose(frame.orientation, first.orientation, atol=1e-3):
            raise UnreadableError(source, "slices in different directions", "parallel slices", SPLIT)
        if frame.pixels.shape != first.pixels.shape or not np.allclose(frame.spacing[:2], first.spacing[:2], rtol=1e-3):
            kinds = sorted({f"{each.pixels.shape} of {each.spacing[:2]} mm" for each in frames})
            raise UnreadableError(source, f"slices of different sizes: {', '.join(kinds)}", "one size", SPLIT)


def normal(frame: Frame) -> np.ndarray:
    """Unit normal of the plane in LPS+."""
    across = np.cross(*frame.orientation.reshape(2, 3))
    return across / np.linalg.norm(across)


def affine_of(frames: Sequence[Frame]) -> np.ndarray:
    """Voxel index (column, row, slice, 1) → mm in RAS+, for sorted frames; a single slice has its declared thickness,
    or 1 mm.

    Evenly shifted slices, as from a tilted gantry, give an affine with shear, unless the stack ends less than 0.1 mm
    beside a straight one.
    """
    first, last = frames[0], frames[-1]
    row, column = first.orientation.reshape(2, 3)
    step = normal(first) * (first.spacing[2] or 1)
    if len(frames) > 1 and first.position is not None and last.position is not None:
        way, across = last.position - first.position, normal(first)
        straight = across * (way @ across)
        way = straight if np.linalg.norm(way - straight) < ROUNDED else way
        step = way / (len(frames) - 1)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([row * first.spacing[1], column * first.spacing[0], step], axis=1)
    affine[:3, 3] = 0 if first.position is None else first.position
    return LPS_TO_RAS @ affine


def values_of(frames: Sequence[Frame], source: str) -> np.ndarray:
    """Scaled values (frames, columns, rows), or (frames, columns, rows, 3) for colours.

    Without scaling, the type is that of the files, or one that holds those of all. With integer slopes and intercepts
    it is the smallest signed integer type that suffices, else float32.

    Raises:
        UnreadableError: a slope or an intercept that leads to values beyond float32.
    """
    kind = _kind(frames, source)
    if all(frame.scaling == (1, 0) for frame in frames):
        return np.stack([frame.pixels.astype(kind, copy=False) for frame in frames])
    # Frame by frame, in float64, which is exact for integers up to 2^53.
    return np.stack([(frame.pixels * frame.scaling[0] + frame.scaling[1]).astype(kind) for frame in frames])


def _kind(frames: Sequence[Frame], source: str) -> np.dtype:
    stored = np.result_type(*(frame.pixels.dtype for frame in frames))  # slices may differ in size and sign
    if all(frame.scaling == (1, 0) for frame in frames):
        return stored.newbyteorder("=")
    ends = [(frame.pixels.min(), frame.pixels.max(), *frame.scaling) for frame in frames]
    values = [float(end) * slope + intercept for low, high, slope, intercept in ends for end in (low, high)]
    if stored.kind in "iu" and all(number.is_integer() for frame in frames for number in frame.scaling):
        for kind in (np.int16, np.int32, np.int64):
            if np.iinfo(kind).min <= min(values) and max(values) <= min(np.iinfo(kind).max, EXACT):
                return np.dtype(kind)
    if max(map(abs, values)) > np.finfo(np.float32).max:
        found = f"values up to {max(map(abs, values)):.3g} by its slope and intercept"
        raise UnreadableError(source, found, "those of float32", "correct RescaleSlope and RescaleIntercept")
    return np.dtype(np.float32)
