"""Cut a scan into slices, and assemble slices into a scan.

Slices are images (B, C, H, W) in radiological orientation; they are numbered from 0 in the order of the last column:

    plane      top of the image    left of the image    order of slices
    axial      anterior            patient's right      inferior to superior
    coronal    superior            patient's right      posterior to anterior
    sagittal   superior            anterior             left to right

Rows run from top to bottom and columns from left to right. Oblique scans are cut along the axis of the scan that is
nearest to the plane's normal.
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
    """Slices of a scan.

    Attributes:
        array: (B, C, H, W).
        numbers: (B,) of the slices in the scan, from 0.
        positions: (B,) of their centres along the patient's axis across the plane, mm in RAS+.
        modality: one name per channel.
        plane: "axial", "coronal" or "sagittal".
    """

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
                f"{len(self.modality)} names; expected (B, C, H, W), (B,), (B,) and C names."
            )


def slices(scan: Scan, plane: Plane = "axial", leave_out: tuple[int, int] = (0, 0)) -> Slices:
    """Cut a scan into slices. The result is a view if possible.

    Args:
        scan: (C, X, Y, Z).
        plane: "axial", "coronal" or "sagittal".
        leave_out: number of first and last slices to leave out; (80, 26) is common for BraTS.

    Returns:
        Slices with `positions` in mm along the axis across the plane; superior, anterior and right are positive.

    Raises:
        ValueError: an unknown plane, or no slice is left.

    Example:
        >>> slices(scan, "coronal").array.shape  # of 160×192×160 voxels
        (192, 1, 160, 160)
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
    """Assemble slices into a scan on the grid that they were cut from.

    Args:
        images: slices; they may have other content, such as `replace(cut, array=masks, modality=("labels",))`.
        like: scan with that grid.
        fill: value of missing slices.

    Raises:
        ValueError: the images have another size than the slices of `like`, or a number beyond its last slice.
    """
    matrix, (height, width, count) = _layout(like, images.plane)
    given = images.array.shape
    if given[2:] != (height, width) or not (images.numbers < count).all():
        raise ValueError(
            f"Got {images.plane} slices of {given[2:]} pixels, the last number {images.numbers.max()}; "
            f"expected {(height, width)} and less than {count} for a scan of {like.shape} voxels."
        )
    volume = np.full((count, *given[1:]), fill, images.array.dtype)
    volume[images.numbers] = images.array
    array = resample(np.moveaxis(volume, 0, -1), np.linalg.inv(matrix), like.shape, nearest=True)
    return like.like(array, images.modality)


def _layout(scan: Scan, plane: Plane) -> GridTransform:
    if plane not in _LAYOUTS:
        raise ValueError(f"plane={plane!r}; expected one of {', '.join(_LAYOUTS)}.")
    return reorientation(scan.affine, scan.shape, _LAYOUTS[plane][0])
