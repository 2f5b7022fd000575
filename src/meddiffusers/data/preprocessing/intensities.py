"""Intensities of MR, which have no unit, brought to a declared range by percentiles of the foreground."""

from __future__ import annotations

from functools import reduce

import numpy as np


def foreground_window(channel: np.ndarray, percentiles: tuple[float, float], name: str = "the image") -> np.ndarray:
    """(2,) the intensities at two percentiles of the voxels other than 0, as numpy's linear `percentile` gives them.

    Raises:
        ValueError: voxels that are NaN or infinite, no voxel but 0, or two percentiles of one value; names `name`.
    """
    if channel.dtype.kind == "f" and (invalid := int((~np.isfinite(channel)).sum())):
        raise ValueError(
            f"{name}: {invalid} of {channel.size} voxels are NaN or infinite; expected finite ones. "
            "Repair them or leave the file out."
        )
    voxels = channel[_forwards(channel)].ravel(order="K")  # in the order of memory, where selecting is fast
    foreground = voxels[voxels != 0]
    if not foreground.size:
        raise ValueError(f"{name}: all {channel.size} voxels are 0; expected an image. Leave the file out.")
    window = _percentiles(foreground, percentiles)
    if window[0] == window[1]:
        raise ValueError(
            f"{name}: percentiles {percentiles[0]:g} and {percentiles[1]:g} of the foreground are both {window[0]:g}; "
            "expected an image with contrast. Leave the file out, or take percentiles further apart."
        )
    return window


def rescale(array: np.ndarray, windows: np.ndarray, intensity_range: tuple[float, float]) -> np.ndarray:
    """(C, X, Y, Z) float32: each channel's window, a row of (C, 2), mapped to the range; beyond it clipped."""
    low, high = map(np.float32, intensity_range)
    values = array.astype(np.float32)  # of the same memory layout, as all that follows
    for channel, (dark, bright) in zip(values, windows, strict=True):
        channel -= np.float32(dark)
        channel *= (high - low) / np.float32(bright - dark)
        channel += low
        np.clip(channel, low, high, out=channel)
    return values


def foreground_box(array: np.ndarray, margin: np.ndarray) -> tuple[slice, slice, slice]:
    """Where any channel of (C, X, Y, Z) is not 0, with `margin` (3,) voxels around it as far as the image reaches."""
    forwards = _forwards(array[0])
    foreground = reduce(np.logical_or, (channel[forwards] != 0 for channel in array))[forwards]
    sides = []
    for axis, width in enumerate(margin):
        others = tuple(other for other in range(3) if other != axis)
        hit = np.flatnonzero(foreground.any(axis=others))
        first, last = (hit[0], hit[-1]) if hit.size else (0, foreground.shape[axis] - 1)
        sides.append(slice(max(int(first - width), 0), min(int(last + width) + 1, foreground.shape[axis])))
    return sides[0], sides[1], sides[2]


def _forwards(array: np.ndarray) -> tuple[slice, ...]:
    """What undoes the flips of a view, or redoes them: along memory numpy compares in a fifth of the time."""
    return tuple(slice(None, None, 1 if stride > 0 else -1) for stride in array.strides)


def _percentiles(values: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """What np.percentile gives; of short integers by counting them, in a third of its time."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize > 2:
        return np.percentile(values, percentiles)
    low = values.min()
    above_low = (values - low).view(f"u{values.dtype.itemsize}")  # exact, though the signed difference may wrap round
    up_to = np.bincount(above_low).cumsum()  # how many voxels are no brighter than each value
    ranks = np.array(percentiles) / 100 * (values.size - 1)
    below, above = (np.searchsorted(up_to, side(ranks), side="right") + int(low) for side in (np.floor, np.ceil))
    return below + (above - below) * (ranks % 1)
