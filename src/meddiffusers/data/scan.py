"""A scan: voxels, where they lie in the patient, and what was measured.

array     (C, X, Y, Z)   one channel for each co-registered modality, or for each frame of a moving image
affine    (4, 4)         voxel index (i, j, k, 1) → millimetres in RAS+: x to the right, y forward, z up
spacing   (3,)           edge lengths of a voxel, mm
modality  C names        of `data.modalities`; a label map is ("labels",)
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
    """Voxels with their geometry. Nothing that identifies a patient is kept.

    array: (C, X, Y, Z), or (X, Y, Z) for one channel, of a real or boolean type; a single slice has Z = 1.
    modality: one name for each channel, or one for all.
    source: the file or folder it was read from; only for messages, never written.
    time_step: seconds from one channel to the next where channels are frames, else 0.

    Raises:
        ValueError: another number of axes, an empty array, a type that is no number, an affine that is not 4×4, finite
            and invertible, or another number of names than channels.
    """

    array: np.ndarray
    affine: np.ndarray
    modality: tuple[str, ...] | str = ""
    source: str = ""
    time_step: float = 0.0

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
        """Voxels along the three axes, without channels."""
        return self.array.shape[1:]

    @property
    def orientation(self) -> str:
        """Where the three axes point to, such as "RAS"."""
        return "".join(nibabel.aff2axcodes(self.affine))

    @property
    def is_labels(self) -> bool:
        """Whether the voxels are names of things, which may be neither averaged nor interpolated."""
        return self.modality == (LABELS,) * len(self.array)

    @property
    def voxel_volume(self) -> float:
        """mm³."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def channel(self, name: str) -> np.ndarray:
        """The voxels (X, Y, Z) of the modality of that name; ValueError where there is none or more than one."""
        if self.modality.count(name) != 1:
            raise ValueError(f"Expected one channel {name!r}; the scan has {', '.join(self.modality)}.")
        return self.array[self.modality.index(name)]

    def like(self, array: np.ndarray, modality: Sequence[str] | str | None = None) -> Scan:
        """Other voxels at the same place; `modality` as at construction, by default this scan's."""
        if np.shape(array)[-3:] != self.shape:
            raise ValueError(f"Voxels of shape {np.shape(array)} do not lie on this scan's grid {self.shape}.")
        names: Any = self.modality if modality is None else modality
        return replace(self, array=array, modality=names if isinstance(names, str) else tuple(names))


def stack_channels(scans: Sequence[Scan]) -> Scan:
    """Co-registered scans as the channels of one; ValueError where their grids differ."""
    first = scans[0]
    for scan in scans[1:]:
        if scan.shape != first.shape or not np.allclose(scan.affine, first.affine, atol=1e-3):
            raise ValueError(
                f"{scan.source or 'a scan'} has {scan.shape} voxels at {np.round(scan.affine, 3).tolist()}, "
                f"{first.source or 'the first'} {first.shape} at {np.round(first.affine, 3).tolist()}; "
                "expected one grid: resample them onto one."
            )
    array = np.concatenate([scan.array for scan in scans])
    return replace(first, array=array, modality=tuple(name for scan in scans for name in scan.modality))
