"""One subject, made into the images that a slice-wise network takes, and the network's maps brought back.

    cut = subject_slices("patient7", ("t1", "t1ce", "t2", "flair"), spacing=1.5, size=(160, 160))
    scan = cut.invert(network(cut.images), ("background", "tumour"), fill=(1, 0))

Slices lie where the file has them, whatever their thickness: only within the plane voxels are resampled.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from meddiffusers.data.preprocessing.intensities import foreground_box
from meddiffusers.data.preprocessing.resampling import reorientation, resample
from meddiffusers.data.preprocessing.slices import Plane, Slices, assemble, slices
from meddiffusers.data.preprocessing.subject import read_subject
from meddiffusers.data.preprocessing.transforms import Preprocessed, Preprocessing
from meddiffusers.data.scan import Scan

__all__ = ["SubjectSlices", "in_plane", "read_subject", "subject_slices"]
_AXES = {"axial": (1, 0, 2), "coronal": (2, 0, 1), "sagittal": (2, 1, 0)}  # RAS axes along rows, columns, slices
_DARK = 1e-4  # of the intensity range: interpolation leaves less than that where nothing is
_CUT_OFF = 1.1  # times the field of view, beyond which a head is said to be too large for it

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SubjectSlices:
    """Images of one subject and the way back.

    cut: the images, (N, C, H, W) float32 of the slices with any foreground, at their places in the prepared grid.
    present: the modalities that there are; of others the channel is at the low end of the range.
    prepared: the grid they were cut from, without its voxels; lowest: the number of its first slice in the file.
    """

    cut: Slices
    present: tuple[str, ...]
    prepared: Preprocessed
    lowest: int

    @property
    def images(self) -> np.ndarray:
        """(N, C, H, W) float32 within the intensity range, laid out as `data.slices` says."""
        return self.cut.array

    @property
    def numbers(self) -> np.ndarray:
        """(N,) of the slices in the file, counted from 0 at its lowest along the axis across the plane."""
        return self.cut.numbers + self.lowest

    def invert(self, maps: np.ndarray, names: Sequence[str], fill: float | Sequence[float] = 0) -> Scan:
        """Maps (N, K, H, W), one of each image, on exactly the voxels and the affine of the file: (K, X, Y, Z).

        Where the spacing was changed, floats are interpolated linearly within the plane and become float32; integers
        take the nearest pixel and keep their type. fill: of each map or of all, where the network did not look, such as
        1 for the probability of background.

        Raises:
            ValueError: maps of another shape than the images, or another number of names or fills than of maps.
        """
        count, _, *size = self.images.shape
        fills = np.ravel(fill).tolist() * (len(names) if np.ndim(fill) == 0 else 1)
        expected = (count, len(names), *size)
        if maps.shape != expected or len(fills) != len(names):
            raise ValueError(
                f"Got maps of shape {maps.shape}, {len(names)} names and {len(fills)} fills; expected {expected}, "
                "a map of each name for each image, and one fill for all or one for each."
            )
        affine, shape = self.prepared.original
        inverse, volumes = np.linalg.inv(self.prepared.matrix), []
        nearest = maps.dtype.kind != "f"
        for index, (name, outside) in enumerate(zip(names, fills, strict=True)):
            one = maps[:, index : index + 1]
            of_one = replace(self.cut, array=one if nearest else one.astype(np.float32), modality=(name,))
            volume = assemble(of_one, self.prepared.image, fill=outside)
            volumes.append(resample(volume.array, inverse, shape, nearest=nearest, fill=outside))
        return Scan(np.concatenate(volumes), affine, tuple(names), source=self.prepared.image.source)


def subject_slices(
    source: Any,
    modalities: Sequence[str],
    *,
    spacing: float,
    size: tuple[int, int],
    intensity_range: tuple[float, float] = (0, 1),
    plane: Plane = "axial",
) -> SubjectSlices:
    """The slices of a subject with the modalities as channels, in their order.

    source: of `read_subject`. spacing: mm, of the square pixels; size: (H, W), about the middle of the foreground.
    intensity_range: what percentiles 1 and 99 of each modality's foreground (not 0) in the whole volume become; around
    the head is the low end. Slices without any foreground are left out. A head that the images cut off is logged.

    Raises:
        ValueError, FileNotFoundError: as `read_subject`; an unknown plane; a modality that is empty, without contrast
            or not finite.
    """
    prepare = in_plane(spacing, size, intensity_range, plane)
    scan = read_subject(source, modalities)
    prepared = prepare(scan)
    rows, columns, across = _AXES[plane]
    upright, _ = reorientation(scan.affine, scan.shape, "RAS")
    _warn_of_cut_off(scan, upright, (rows, columns), (size[0] * spacing, size[1] * spacing))
    nothing = np.broadcast_to(np.float32(0), prepared.image.shape)  # of the grid's shape, but without memory
    return SubjectSlices(
        cut=_with_foreground(slices(prepared.image, plane), modalities, intensity_range),
        present=tuple(scan.modality),
        prepared=replace(prepared, image=prepared.image.like(nothing, "")),
        lowest=round((np.linalg.inv(upright) @ prepared.matrix)[across, 3]),
    )


def in_plane(
    spacing: float, size: tuple[int, int], intensity_range: tuple[float, float] = (0, 1), plane: Plane = "axial"
) -> Preprocessing:
    """What `subject_slices` does to a scan before it is cut: only within the plane voxels are resampled.

    Raises ValueError for an unknown plane.
    """
    if plane not in _AXES:
        raise ValueError(f"plane={plane!r}; expected one of {', '.join(_AXES)}.")
    rows, columns, across = _AXES[plane]
    spacings: list[float | None] = [spacing] * 3
    sizes: list[int | None] = [None] * 3
    spacings[across], sizes[rows], sizes[columns] = None, size[0], size[1]
    return Preprocessing(
        spacing=(spacings[0], spacings[1], spacings[2]),
        size=(sizes[0], sizes[1], sizes[2]),
        intensity_range=intensity_range,
    )


def _with_foreground(cut: Slices, modalities: Sequence[str], intensity_range: tuple[float, float]) -> Slices:
    """The slices that show anything, with a channel for each modality."""
    low, high = intensity_range
    kept = np.flatnonzero((cut.array > low + _DARK * (high - low)).any(axis=(1, 2, 3)))
    images = np.full((len(kept), len(modalities), *cut.array.shape[2:]), low, np.float32)
    for index, name in enumerate(modalities):
        if name in cut.modality:
            images[:, index] = cut.array[kept, cut.modality.index(name)]
    return Slices(images, cut.numbers[kept], cut.positions[kept], tuple(modalities), cut.plane)


def _warn_of_cut_off(scan: Scan, upright: np.ndarray, axes: tuple[int, int], view: tuple[float, float]) -> None:
    """Log where the foreground is larger than the field of view, mm, along rows or columns."""
    box = foreground_box(scan.array, np.zeros(3))
    lengths = np.array([side.stop - side.start for side in box]) * scan.spacing
    of_file = np.abs(upright[:3, :3]).argmax(axis=0)  # for each axis of RAS the file's
    head = lengths[of_file[list(axes)]]
    if (head > _CUT_OFF * np.array(view)).any():
        logger.warning(
            "%s: a head of %.0f×%.0f mm is cut off by images of %.0f×%.0f mm; beyond them nothing is looked at.",
            scan.source or "a scan",
            *head,
            *view,
        )
