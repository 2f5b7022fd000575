"""Label maps that images are drawn of: where they come from, whether a model takes them, how they are written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from meddiffusers.data.io import read
from meddiffusers.data.preprocessing.resampling import reorientation, resample
from meddiffusers.data.preprocessing.slices import slices
from meddiffusers.data.scan import Scan

ENDS = (".nii", ".nii.gz")
SAME_SPACING = 1e-2  # mm, of voxels that are as long


@dataclass(frozen=True)
class LabelMaps:
    """One after the other, from the first again at their end, which then is drawn of other noise.

    maps: (M, H, W) or (M, X, Y, Z) of ids, rows of images from front to back and columns from the head's right to its
    left, volumes to the right, to the front and up.
    """

    maps: np.ndarray

    def __post_init__(self) -> None:
        if not len(self.maps):
            raise ValueError("There are no label maps; expected one for each image, or some to repeat.")

    @classmethod
    def read(cls, folder: Path, size: Sequence[int], spacing: float | None) -> LabelMaps:
        """Of the NIfTI files in a folder: for images the axial slices that show any label, for volumes the whole.

        size: voxels of a image or volume; spacing: mm that its voxels are long, None if that does not matter.

        Raises:
            ValueError: no such file, one of other voxels, or one whose values are not whole numbers from 0 on.
        """
        paths = sorted(path for path in folder.iterdir() if path.name.endswith(ENDS))
        parts = [_maps_of(path, tuple(size), spacing) for path in paths]
        return cls(np.concatenate(parts) if parts else np.empty((0, *size), np.uint8))

    def check(self, pipeline: Any) -> None:
        """ValueError where a latent diffusion pipeline draws other sizes, or knows other labels."""
        known, size = pipeline.unet.mask_labels, size_of(pipeline)
        if not known:
            raise ValueError("The model is told no label maps; leave them out.")
        foreign = set(np.unique(self.maps).tolist()) - {0, *known}
        if self.maps.shape[1:] != size or foreign:
            ids = ", ".join(f"{label} ({name})" for label, name in known.items())
            raise ValueError(
                f"Got label maps of {self.maps.shape[1:]} voxels"
                + (f" with the ids {', '.join(map(str, sorted(foreign)))}" if foreign else "")
                + f"; expected {size}, as the model draws, and the ids 0 and {ids}."
            )

    def draw(self, index: int) -> np.ndarray:
        """The map of sample number `index`."""
        return self.maps[index % len(self.maps)]

    def describe(self) -> dict[str, Any]:
        """How many there are, and a fingerprint by which they are told from others."""
        digest = hashlib.sha256(np.ascontiguousarray(self.maps).tobytes()).hexdigest()
        return {"kind": "label maps", "maps": len(self.maps), "sha256": digest}


def size_of(pipeline: Any) -> tuple[int, ...]:
    """Voxels that a latent diffusion pipeline draws along each axis."""
    return tuple(pipeline.vae_scale_factor * side for side in pipeline.unet.config["sample_size"])


def label_image(labels: np.ndarray, affine: np.ndarray) -> nibabel.Nifti1Image:
    """A map on the voxels of a image that the pipeline gave as NIfTI."""
    volume = labels.T[..., None] if labels.ndim == 2 else labels
    return nibabel.Nifti1Image(volume.astype(np.min_scalar_type(int(labels.max()))), affine)


def _maps_of(path: Path, size: tuple[int, ...], spacing: float | None) -> np.ndarray:
    """(N, …) maps of a file."""
    scan = read(path, modality="labels")
    ids = scan.array.round()
    if not np.isfinite(scan.array).all() or (ids != scan.array).any() or ids.min() < 0:
        raise ValueError(f"{path} is no label map; expected whole numbers from 0 on.")
    scan = scan.like(ids.astype(np.min_scalar_type(int(ids.max()))), "labels")
    matrix, shape = reorientation(scan.affine, scan.shape, "RAS")
    dims = len(size)
    edges = np.linalg.norm((scan.affine @ matrix)[:3, :dims], axis=0)
    found = shape[1::-1] if dims == 2 else shape
    if tuple(found) != size or (spacing is not None and (abs(edges - spacing) > SAME_SPACING).any()):
        raise ValueError(
            f"{path} has {tuple(found)} voxels of {', '.join(f'{edge:.3g}' for edge in edges)} mm; expected {size} of "
            f"{spacing or 'any'} mm, as the model draws. Bring it to that grid, taking the nearest voxel."
        )
    return resample(scan.array, matrix, shape, nearest=True) if dims == 3 else _shown(scan)


def _shown(scan: Scan) -> np.ndarray:
    """(N, H, W) axial slices with any label; a single slice is shown as it is."""
    cut = slices(scan).array[:, 0]
    return cut if len(cut) == 1 else cut[cut.any(axis=(1, 2))]
