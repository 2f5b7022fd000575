"""Cut one subject into the images that a slice-wise network takes, and map the network's output back.

    cut = subject_slices("patient7", ("t1", "t1ce", "t2", "flair"), spacing=1.5, size=(160, 160))
    scan = cut.invert(network(cut.images), ("background", "tumour"), fill=(1, 0))

Slices stay at their positions in the file, whatever their thickness: voxels are resampled only within the plane.
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
_DARK = 1e-4  # fraction of the intensity range below which a pixel is background after interpolation
_CUT_OFF = 1.1  # a head larger than this multiple of the field of view is reported

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SubjectSlices:
    """Slices of one subject, and the inverse of their preprocessing.

    Attributes:
        cut: slices (B, C, H, W) float32 with foreground, on the preprocessed grid.
        present: modalities that the subject has; the channels of others are at the low end of the intensity range.
        preprocessed: the grid that the slices were cut from, without its voxels.
        lowest: number in the file of the first slice of that grid.
    """

    cut: Slices
    present: tuple[str, ...]
    preprocessed: Preprocessed
    lowest: int

    @property
    def images(self) -> np.ndarray:
        """(B, C, H, W) float32 within the intensity range, in the orientation of `preprocessing.slices`."""
        return self.cut.array

    @property
    def numbers(self) -> np.ndarray:
        """(B,) numbers of the slices in the file, from 0 at its lowest slice across the plane."""
        return self.cut.numbers + self.lowest

    def invert(self, maps: np.ndarray, names: Sequence[str], fill: float | Sequence[float] = 0) -> Scan:
        """Map the network's output back to the voxels and affine of the file.

        If the spacing was changed, floats are interpolated linearly within the plane and become float32; integers take
        the nearest pixel and keep their type.

        Args:
            maps: (B, K, H, W), K maps per image.
            names: K names, the modality of the result.
            fill: value outside the slices, one per map or one for all, such as 1 for the probability of background.

        Returns:
            Scan (K, X, Y, Z).

        Raises:
            ValueError: maps of another shape than the images, or another number of names or fill values than of maps.
        """
        count, _, *size = self.images.shape
        fills = np.ravel(fill).tolist() * (len(names) if np.ndim(fill) == 0 else 1)
        expected = (count, len(names), *size)
        if maps.shape != expected or len(fills) != len(names):
            raise ValueError(
                f"Got maps of shape {maps.shape}, {len(names)} names and {len(fills)} fills; expected {expected}, "
                "a map of each name for each image, and one fill for all or one for each."
            )
        affine, shape = self.preprocessed.original
        inverse, volumes = np.linalg.inv(self.preprocessed.matrix), []
        nearest = maps.dtype.kind != "f"
        for index, (name, outside) in enumerate(zip(names, fills, strict=True)):
            one = maps[:, index : index + 1]
            of_one = replace(self.cut, array=one if nearest else one.astype(np.float32), modality=(name,))
            volume = assemble(of_one, self.preprocessed.image, fill=outside)
            volumes.append(resample(volume.array, inverse, shape, nearest=nearest, fill=outside))
        return Scan(np.concatenate(volumes), affine, tuple(names), source=self.preprocessed.image.source)


def subject_slices(
    source: Any,
    modalities: Sequence[str],
    *,
    spacing: float,
    size: tuple[int, int],
    intensity_range: tuple[float, float] = (0, 1),
    plane: Plane = "axial",
) -> SubjectSlices:
    """Cut a subject into slices with the modalities as channels. Slices without foreground are left out.

    A warning is logged if the head is larger than the images.

    Args:
        source: see `read_subject`.
        modalities: the channels, in order.
        spacing: edge length of the square pixels in mm.
        size: (H, W), centred on the foreground.
        intensity_range: values of percentiles 1 and 99 of each modality's foreground (not 0) in the whole volume; the
            background has the low end.
        plane: "axial", "coronal" or "sagittal".

    Raises:
        FileNotFoundError: see `read_subject`.
        ValueError: see `read_subject`; an unknown plane; a modality that is empty, constant or not finite.

    Example:
        >>> cut = subject_slices("patient7", ("t1", "flair"), spacing=1.5, size=(160, 160))
        >>> cut.images.shape
        (97, 2, 160, 160)
    """
    preprocess = in_plane(spacing, size, intensity_range, plane)
    scan = read_subject(source, modalities)
    preprocessed = preprocess(scan)
    rows, columns, across = _AXES[plane]
    upright, _ = reorientation(scan.affine, scan.shape, "RAS")
    _warn_of_cut_off(scan, upright, (rows, columns), (size[0] * spacing, size[1] * spacing))
    nothing = np.broadcast_to(np.float32(0), preprocessed.image.shape)  # has the grid's shape, but uses no memory
    return SubjectSlices(
        cut=_with_foreground(slices(preprocessed.image, plane), modalities, intensity_range),
        present=tuple(scan.modality),
        preprocessed=replace(preprocessed, image=preprocessed.image.like(nothing, "")),
        lowest=round((np.linalg.inv(upright) @ preprocessed.matrix)[across, 3]),
    )


def in_plane(
    spacing: float, size: tuple[int, int], intensity_range: tuple[float, float] = (0, 1), plane: Plane = "axial"
) -> Preprocessing:
    """Preprocessing of `subject_slices`: voxels are resampled only within the plane.

    Args:
        spacing: edge length of the square pixels in mm.
        size: (H, W) of the slices.
        intensity_range: see `Preprocessing`.
        plane: "axial", "coronal" or "sagittal".

    Raises:
        ValueError: an unknown plane.
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
    """The slices with foreground, with one channel per modality."""
    low, high = intensity_range
    kept = np.flatnonzero((cut.array > low + _DARK * (high - low)).any(axis=(1, 2, 3)))
    images = np.full((len(kept), len(modalities), *cut.array.shape[2:]), low, np.float32)
    for index, name in enumerate(modalities):
        if name in cut.modality:
            images[:, index] = cut.array[kept, cut.modality.index(name)]
    return Slices(images, cut.numbers[kept], cut.positions[kept], tuple(modalities), cut.plane)


def _warn_of_cut_off(scan: Scan, upright: np.ndarray, axes: tuple[int, int], view: tuple[float, float]) -> None:
    """Log a warning if the foreground is larger than the field of view in mm, along rows or columns."""
    box = foreground_box(scan.array, np.zeros(3))
    lengths = np.array([side.stop - side.start for side in box]) * scan.spacing
    of_file = np.abs(upright[:3, :3]).argmax(axis=0)  # for each axis of RAS the file's
    head = lengths[of_file[list(axes)]]
    if (head > _CUT_OFF * np.array(view)).any():
        logger.warning(
            "%s: a head of %.0f×%.0f mm is cut off by images of %.0f×%.0f mm; the rest is not processed.",
            scan.source or "a scan",
            *head,
            *view,
        )
