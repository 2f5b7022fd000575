"""Preprocess a scan for a network, and map the network's output back to the voxels of the file.

    preprocess = Preprocessing(spacing=1.0, size=(224, 224, 155), intensity_range=(-1, 1))
    preprocessed = preprocess(scan, labels)
    mask = preprocessed.invert(preprocessed.image.like(network(preprocessed.image.array), "labels"))

The axes of the preprocessed grid are parallel to those of the original one. Without a change of spacing voxels are only
selected: nothing is interpolated, and the inverse is exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from meddiffusers.data.preprocessing.intensities import foreground_box, foreground_window, rescale
from meddiffusers.data.preprocessing.resampling import Shape, reorientation, resample, respacing, translation
from meddiffusers.data.scan import Scan

SAME_SPACING = 1e-3  # mm: headers store float32, so smaller differences are ignored


@dataclass(frozen=True)
class Preprocessing:
    """Set orientation, spacing, size and intensity range of a scan. A call with a scan returns a `Preprocessed`.

    Args:
        spacing: edge length of the voxels in mm, one or three along the axes of `orientation`; None, for one axis or
            all, keeps that of the file.
        size: (X, Y, Z) voxels, each an integer or None to keep the size; cropped or padded around the centre.
        crop_foreground: first crop to the bounding box of the voxels at which any channel is not 0.
        margin: mm around that box.
        percentiles: of each channel's foreground (not 0); values beyond them are clipped.
        intensity_range: values of the two percentiles; padding has the low end.
        orientation: directions of the three axes.

    Raises:
        ValueError: invalid settings.

    Example:
        >>> preprocess = Preprocessing(spacing=1.0, size=(160, 192, 160), intensity_range=(-1, 1))
        >>> preprocessed = preprocess(scan)
        >>> preprocessed.image.shape
        (160, 192, 160)
    """

    spacing: float | tuple[float | None, float | None, float | None] | None = None
    size: tuple[int | None, int | None, int | None] | None = None
    crop_foreground: bool = True
    margin: float = 3.0
    percentiles: tuple[float, float] = (1, 99)
    intensity_range: tuple[float, float] = (0, 1)
    orientation: str = "RAS"

    def __post_init__(self) -> None:
        for name, value in (("spacing", self.spacing), ("size", self.size)):
            numbers = _three(value)
            if len(numbers) != 3 or not all(number is None or 0 < number < math.inf for number in numbers):
                raise ValueError(f"{name}={value!r}; expected positive numbers for three axes, or None to keep it.")
        if not all(number is None or isinstance(number, int | np.integer) for number in _three(self.size)):
            raise ValueError(f"size={self.size!r}; expected whole numbers of voxels.")
        if not 0 <= self.margin < math.inf:
            raise ValueError(f"margin={self.margin!r}; expected mm, 0 or more.")
        if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ValueError(f"percentiles={self.percentiles!r}; expected two rising numbers from 0 to 100.")
        if not -math.inf < self.intensity_range[0] < self.intensity_range[1] < math.inf:
            raise ValueError(f"intensity_range={self.intensity_range!r}; expected two finite rising numbers.")
        axes = [axis for letter in self.orientation for axis in ("IS", "LR", "PA") if letter in axis]
        if sorted(axes) != ["IS", "LR", "PA"]:
            raise ValueError(f"orientation={self.orientation!r}; expected one letter of each of LR, PA and IS.")

    def __call__(self, scan: Scan, labels: Scan | None = None) -> Preprocessed:
        """Preprocess a scan.

        Args:
            scan: (C, X, Y, Z).
            labels: label map on the same grid; it takes the nearest voxel and keeps its type.

        Raises:
            ValueError: labels on another grid, or a channel that is empty, constant or not finite.
        """
        if labels is not None and not _same_grid(labels, scan):
            raise ValueError(
                f"Labels of {labels.shape} voxels{_of(labels)} do not lie on the grid of the scan{_of(scan)}, "
                f"{scan.shape}; expected the same shape and affine."
            )
        matrix, shape = reorientation(scan.affine, scan.shape, self.orientation)
        array = resample(scan.array, matrix, shape, nearest=True)
        if self.crop_foreground:
            box = foreground_box(array, np.ceil(self.margin / np.linalg.norm((scan.affine @ matrix)[:3, :3], axis=0)))
            array, matrix = array[(slice(None), *box)], matrix @ translation([side.start for side in box])
        windows = [
            foreground_window(channel, self.percentiles, f"{scan.source or 'a scan'}, channel {name or number}")
            for number, (channel, name) in enumerate(zip(array, scan.modality, strict=True))
        ]
        inner, shape = self._grid(scan.affine @ matrix, array.shape[1:])
        values = rescale(array, np.array(windows), self.intensity_range)
        image = resample(values, inner, shape, nearest=False, fill=self.intensity_range[0])
        matrix = matrix @ inner
        affine = scan.affine @ matrix
        return Preprocessed(
            image=replace(scan, array=image, affine=affine),
            labels=labels and replace(labels, array=resample(labels.array, matrix, shape, nearest=True), affine=affine),
            intensity_range=self.intensity_range,
            windows=np.array(windows),
            original=(scan.affine, scan.shape),
            matrix=matrix,
        )

    def _grid(self, affine: np.ndarray, shape: Shape) -> tuple[np.ndarray, Shape]:
        """Matrix and shape from the cropped grid to the requested spacing and size."""
        here = np.linalg.norm(affine[:3, :3], axis=0)
        requested = np.array(_fill_none(_three(self.spacing), here))
        matrix, shape = respacing(shape, np.where(np.abs(requested - here) < SAME_SPACING, 1, requested / here))
        x, y, z = size = _fill_none(_three(self.size), shape)
        offset = [(there - target) // 2 for there, target in zip(shape, size, strict=True)]
        return matrix @ translation(offset), (x, y, z)


@dataclass(frozen=True, eq=False)
class Preprocessed:
    """A preprocessed scan, and the inverse of its preprocessing.

    Attributes:
        image: (C, X, Y, Z) float32 within `intensity_range`.
        labels: on the same grid, with their original type; None if none were given.
        intensity_range: low and high end.
        windows: (C, 2) intensities of the file at the two ends of the range.
        original: affine and shape of the file.
        matrix: (4, 4), voxel index of the preprocessed grid → voxel index of the file.
    """

    image: Scan
    labels: Scan | None
    intensity_range: tuple[float, float]
    windows: np.ndarray
    original: tuple[np.ndarray, Shape]
    matrix: np.ndarray

    def invert(self, scan: Scan) -> Scan:
        """Map a scan on the preprocessed grid back to the voxels, affine and orientation of the file.

        Label maps, integers and booleans take the nearest voxel and keep their type; floats are interpolated linearly
        if the spacing was changed. Voxels that were cropped become 0.

        Args:
            scan: (K, X, Y, Z) on the grid of `image`.

        Raises:
            ValueError: the scan is on another grid.
        """
        if not _same_grid(scan, self.image):
            raise ValueError(
                f"Got a scan of {scan.shape} voxels at {np.round(scan.affine, 3).tolist()}; expected the "
                f"preprocessed grid, {self.image.shape} at {np.round(self.image.affine, 3).tolist()}."
            )
        affine, shape = self.original
        nearest = scan.is_labels or scan.array.dtype.kind != "f"
        array = resample(scan.array, np.linalg.inv(self.matrix), shape, nearest=nearest)
        return replace(scan, array=array, affine=affine)


def _three(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * 3


def _fill_none(requested: Sequence[Any], here: Sequence[Any]) -> tuple[Any, ...]:
    """Replace None by the present value."""
    return tuple(there if target is None else target for target, there in zip(requested, here, strict=True))


def _same_grid(scan: Scan, other: Scan) -> bool:
    return scan.shape == other.shape and np.allclose(scan.affine, other.affine, atol=1e-3)


def _of(scan: Scan) -> str:
    return f" of {scan.source}" if scan.source else ""
