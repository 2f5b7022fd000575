"""Slices of a scan as images, and back.

Images are (N, C, H, W), laid out as radiologists look at them; slice 0 is the lowest in the third column:

    plane      up          left in the image    slices count from
    axial      anterior    patient's right        inferior to superior
    coronal    superior    patient's right        posterior to anterior
    sagittal   superior    anterior               left to right

Rows go down and columns to the right. Oblique scans are cut along their own axes, by the plane nearest to each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from meddiffusers.data.preprocessing.resampling import GridTransform, reorientation, resample
from meddiffusers.data.scan import Scan

Plane = Literal["axial", "coronal", "sagittal"]
_LAYOUTS = {"axial": ("PLS", 2), "coronal": ("ILA", 1), "sagittal": ("IPR", 0)}  # of rows, columns, slices; mm axis


@dataclass(frozen=True, eq=False)
class Slices:
    """array (N, C, H, W); numbers (N,) counted from 0 at the base of the scan; positions (N,) of their centres, mm."""

    array: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray
    modality: tuple[str, ...]
    plane: Plane = "axial"

    def __post_init__(self) -> None:
        shape, numbers, places = self.array.shape, np.shape(self.numbers), np.shape(self.positions)
        if len(shape) != 4 or len(self.modality) != shape[1] or not numbers == places == shape[:1]:
            raise ValueError(
                f"Slices got an array of shape {shape}, numbers {numbers}, positions {places} and "
                f"{len(self.modality)} names; expected (N, C, H, W), (N,), (N,) and C names."
            )


def slices(scan: Scan, plane: Plane = "axial", leave_out: tuple[int, int] = (0, 0)) -> Slices:
    """The slices of a plane without the first and the last few; BraTS is used with `leave_out=(80, 26)`.

    `positions` are mm along the patient's axis across the plane (superior, anterior or right is positive). The array is
    a view where that can be.

    Raises:
        ValueError: nothing is left.
    """
    matrix, shape = _layout(scan, plane)
    first, last = leave_out
    if min(leave_out) < 0 or first + last >= shape[2]:
        raise ValueError(f"leave_out={leave_out} of {shape[2]} {plane} slices; expected to leave at least one.")
    numbers = np.arange(first, shape[2] - last)
    array = resample(scan.array, matrix, shape, nearest=True)[..., first : shape[2] - last]
    middle = np.array([(shape[0] - 1) / 2, (shape[1] - 1) / 2, 0, 1])
    centres = middle + np.outer(numbers, (0, 0, 1, 0))
    positions = (centres @ (scan.affine @ matrix).T)[:, _LAYOUTS[plane][1]]
    return Slices(np.moveaxis(array, -1, 0), numbers, positions, tuple(scan.modality), plane)


def assemble(images: Slices, like: Scan, fill: float = 0) -> Scan:
    """The slices at their places in the grid of `like`, which they were cut from; `fill` where there is none.

    The images may be others than those that were cut: `replace(cut, array=masks, modality=("labels",))`.

    Raises:
        ValueError: images of another size than the slices of `like`, or numbers that it does not have.
    """
    matrix, (height, width, count) = _layout(like, images.plane)
    found = images.array.shape
    if found[2:] != (height, width) or not (images.numbers < count).all():
        raise ValueError(
            f"Got {images.plane} slices of {found[2:]} pixels, the last number {images.numbers.max()}; "
            f"expected {(height, width)} and less than {count}, as a scan of {like.shape} voxels has."
        )
    volume = np.full((count, *found[1:]), fill, images.array.dtype)
    volume[images.numbers] = images.array
    array = resample(np.moveaxis(volume, 0, -1), np.linalg.inv(matrix), like.shape, nearest=True)
    return like.like(array, images.modality)


def _layout(scan: Scan, plane: Plane) -> GridTransform:
    if plane not in _LAYOUTS:
        raise ValueError(f"plane={plane!r}; expected one of {', '.join(_LAYOUTS)}.")
    return reorientation(scan.affine, scan.shape, _LAYOUTS[plane][0])
