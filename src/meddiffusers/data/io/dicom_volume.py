"""Assemble DICOM images into a volume of evenly spaced slices, or a sequence of frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from meddiffusers.data.io.dicom_frames import Frame
from meddiffusers.data.io.library_errors import UnreadableError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
UNEVEN = 0.02  # tolerance relative to the median gap: scanners round positions to 0.1 mm
SAME_PLACE = 1e-3  # mm
ROUNDED = 0.1  # mm, tolerance of the positions of a straight stack
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
    if (np.abs(gaps - median) > UNEVEN * median).any():
        remedy = "look for missing slices, or resample them"
        raise UnreadableError(source, f"slices with uneven gaps: {counts}", f"{median:g} mm between all", remedy)
    line = np.linspace(places[order[0]], places[order[-1]], len(order))
    if np.abs(places[order] - line).max() > max(UNEVEN * median, 10 * SAME_PLACE):
        raise UnreadableError(source, "slices shifted sideways", "slices on one straight line", SPLIT)
    return order.tolist()


def check_frames(frames: Sequence[Frame], source: str) -> None:
    """Raise UnreadableError unless all frames have the same valid size, spacing and orientation."""
    first = frames[0]
    for frame in frames:
        row, column = frame.orientation.reshape(2, 3)
        skew = [row @ row - 1, column @ column - 1, row @ column]
        if not np.abs(skew).max() < 1e-3 or not (min(frame.spacing) > 0 and max(frame.spacing) < 1e6):
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
    """Voxel index (column, row, slice, 1) → mm in RAS+, for sorted frames; a single slice has its declared thickness.

    Evenly shifted slices, as from a tilted gantry, give an affine with shear, unless the stack ends less than 0.1 mm
    beside a straight one.
    """
    first, last = frames[0], frames[-1]
    row, column = first.orientation.reshape(2, 3)
    step = normal(first) * first.spacing[2]
    if len(frames) > 1 and first.position is not None and last.position is not None:
        way, across = last.position - first.position, normal(first)
        straight = across * (way @ across)
        way = straight if np.linalg.norm(way - straight) < ROUNDED else way
        step = way / (len(frames) - 1)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([row * first.spacing[1], column * first.spacing[0], step], axis=1)
    affine[:3, 3] = 0 if first.position is None else first.position
    return LPS_TO_RAS @ affine


def values_of(frames: Sequence[Frame]) -> np.ndarray:
    """Scaled values (frames, columns, rows), or (frames, columns, rows, 3) for colours.

    The type is that of the file without scaling; int16 or int32, whichever suffices, for integer slope and intercept;
    else float32.
    """
    kind = _kind(frames)
    if all(frame.scaling == (1, 0) for frame in frames):
        return np.stack([frame.pixels.astype(kind, copy=False) for frame in frames])
    # Frame by frame, in float64, which is exact for integers up to 2^53.
    return np.stack([(frame.pixels * frame.scaling[0] + frame.scaling[1]).astype(kind) for frame in frames])


def _kind(frames: Sequence[Frame]) -> np.dtype:
    stored = frames[0].pixels.dtype
    if all(frame.scaling == (1, 0) for frame in frames):
        return stored.newbyteorder("=")
    if stored.kind in "iu" and all(number.is_integer() for frame in frames for number in frame.scaling):
        ends = [(frame.pixels.min(), frame.pixels.max(), *frame.scaling) for frame in frames]
        values = [float(end) * slope + intercept for low, high, slope, intercept in ends for end in (low, high)]
        for kind in (np.int16, np.int32):
            if np.iinfo(kind).min <= min(values) and max(values) <= np.iinfo(kind).max:
                return np.dtype(kind)
    return np.dtype(np.float32)
