"""Scans: voxels with their geometry and modality.

array     (C, X, Y, Z)   one channel per co-registered modality, or per frame of a sequence
affine    (4, 4)         voxel index (i, j, k, 1) → mm in RAS+: x to the right, y to anterior, z to superior
spacing   (3,)           edge lengths of a voxel in mm
modality  C names        of `data.modalities`; ("labels",) for a label map
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import nibabel
import numpy as np

from meddiffusers.data.modalities import LABELS


@dataclass(frozen=True, eq=False)
class Scan:
    """Voxels with their geometry. No patient identifiers are kept.

    Args:
        array: (C, X, Y, Z), or (X, Y, Z) for one channel, of a real or boolean type; a single slice has Z = 1.
        affine: (4, 4), voxel index → mm in RAS+.
        modality: one name per channel, or one for all.
        source: file or folder that the scan was read from; used in messages, never written.
        time_step: seconds between channels if they are frames, else 0.
        notes: repairs and doubts of the reader, such as a qform and an sform that differ.
        modality_from: what `modality` was recognized by, or why it is unknown, such as "name: t1, post"; "" if it was
            given. Used in messages, never written.

    Raises:
        ValueError: the array has another number of axes, is empty or not numeric; the affine is not 4×4, finite and
            invertible; or the number of names differs from the number of channels.

    Example:
        >>> scan = Scan(np.zeros((240, 240, 155)), np.eye(4), modality="t1")
        >>> scan.array.shape, scan.spacing, scan.orientation
        ((1, 240, 240, 155), (1.0, 1.0, 1.0), 'RAS')
    """

    array: np.ndarray
    affine: np.ndarray
    modality: tuple[str, ...] | str = ""
    source: str = ""
    time_step: float = 0.0
    notes: tuple[str, ...] = ()
    modality_from: str = ""

    def __post_init__(self) -> None:
        array, affine = np.asarray(self.array), np.array(self.affine, dtype=np.float64)
        array = array[None] if array.ndim == 3 else array
        if array.ndim != 4 or not array.size:
            raise ValueError(f"A scan got an array of shape {array.shape}; expected (C, X, Y, Z) or (X, Y, Z).")
        if array.dtype.kind not in "buif":
            raise ValueError(f"A scan got voxels of type {array.dtype}; expected integers, floats or booleans.")
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.array_equal(affine[3], (0, 0, 0, 1)):
            raise ValueError(f"A scan got the affine {affine.tolist()}; expected 4×4, finite, last row 0, 0, 0, 1.")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if not lengths.all() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
            raise ValueError(f"A scan got an affine with axes that do not span space: {affine.tolist()}.")
        names = (self.modality,) * len(array) if isinstance(self.modality, str) else tuple(self.modality)
        if len(names) != len(array):
            raise ValueError(f"A scan of {len(array)} channels got {len(names)} names: {', '.join(names)}.")
        for name, value in (("array", array), ("affine", affine), ("modality", names)):
            object.__setattr__(self, name, value)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel along its three axes, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along the three axes, without channels."""
        return self.array.shape[1:]

    @property
    def orientation(self) -> str:
        """Directions of the three axes, such as "RAS"."""
        return "".join(nibabel.aff2axcodes(self.affine))

    @property
    def is_labels(self) -> bool:
        """Whether the voxels are labels, which must not be averaged or interpolated."""
        return self.modality == (LABELS,) * len(self.array)

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in mm³."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def channel(self, name: str) -> np.ndarray:
        """Voxels (X, Y, Z) of one modality; ValueError unless exactly one channel has that name."""
        if self.modality.count(name) != 1:
            raise ValueError(f"Expected one channel {name!r}; the scan has {', '.join(self.modality)}.")
        return self.array[self.modality.index(name)]

    def like(self, array: np.ndarray, modality: Sequence[str] | str | None = None) -> Scan:
        """Create a scan with other voxels on the same grid.

        Args:
            array: (K, X, Y, Z) or (X, Y, Z).
            modality: one name per channel, or one for all; by default that of this scan.

        Raises:
            ValueError: the array has another shape.
        """
        if np.shape(array)[-3:] != self.shape:
            raise ValueError(f"Voxels of shape {np.shape(array)} are not on this scan's grid {self.shape}.")
        names: Any = self.modality if modality is None else modality
        return replace(
            self,
            array=array,
            modality=names if isinstance(names, str) else tuple(names),
            modality_from=self.modality_from if modality is None else "",
        )


def stack_channels(scans: Sequence[Scan]) -> Scan:
    """Stack co-registered scans as the channels of one scan (C, X, Y, Z); ValueError if their grids differ."""
    first = scans[0]
    for scan in scans[1:]:
        if scan.shape != first.shape or not np.allclose(scan.affine, first.affine, atol=1e-3):
            raise ValueError(
                f"{scan.source or 'a scan'} has {scan.shape} voxels at {np.round(scan.affine, 3).tolist()}, "
                f"{first.source or 'the first'} {first.shape} at {np.round(first.affine, 3).tolist()}; "
                "expected one grid: resample them onto one."
            )
    array = np.concatenate([scan.array for scan in scans])
    return replace(
        first,
        array=array,
        modality=tuple(name for scan in scans for name in scan.modality),
        modality_from="; ".join(dict.fromkeys(scan.modality_from for scan in scans if scan.modality_from)),
    )
