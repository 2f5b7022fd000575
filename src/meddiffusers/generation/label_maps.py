"""Label maps as conditions of generation: read them from NIfTI, check them against a model, write them as NIfTI."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from meddiffusers.data.io import read
from meddiffusers.data.labels import to_label_ids
from meddiffusers.data.preprocessing.resampling import reorientation, resample
from meddiffusers.data.preprocessing.slices import slices
from meddiffusers.data.scan import Scan
from meddiffusers.pipelines.latent_diffusion_pipeline import LatentDiffusionPipeline

SUFFIXES = (".nii", ".nii.gz")
SPACING_TOLERANCE = 1e-2  # mm


@dataclass(frozen=True)
class LabelMaps:
    """Label maps in their order, repeated (with other noise) if there are more samples than maps.

    Args:
        maps: label ids, (B, H, W) with rows from anterior to posterior and columns from the patient's right to left,
            or (B, X, Y, Z) in RAS orientation.

    Raises:
        ValueError: there are no maps.
    """

    maps: np.ndarray

    def __post_init__(self) -> None:
        if not len(self.maps):
            raise ValueError("There are no label maps; expected at least one. Maps are repeated as needed.")

    @classmethod
    def read(cls, folder: Path, size: Sequence[int], spacing: float | None) -> LabelMaps:
        """Read the NIfTI files in a folder: the axial slices that contain a label for a 2D size, whole volumes for 3D.

        Args:
            folder: folder with `.nii` or `.nii.gz` files.
            size: voxels of an image (H, W) or volume (X, Y, Z).
            spacing: voxel spacing in mm; None accepts any.

        Raises:
            ValueError: no file, a file with another grid, or one with values other than non-negative integers.
        """
        paths = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES))
        parts = [_maps_of(path, tuple(size), spacing) for path in paths]
        return cls(np.concatenate(parts) if parts else np.empty((0, *size), np.uint8))

    def check(self, pipeline: LatentDiffusionPipeline) -> None:
        """Check that a pipeline supports the maps.

        Raises:
            ValueError: the model is not conditioned on label maps, or has another size or other labels.
        """
        known, size = pipeline.unet.mask_labels, sample_shape(pipeline)
        if not known:
            raise ValueError("The model is not conditioned on label maps; leave them out.")
        unknown = set(np.unique(self.maps).tolist()) - {0, *known}
        if self.maps.shape[1:] != size or unknown:
            ids = ", ".join(f"{label} ({name})" for label, name in known.items())
            raise ValueError(
                f"Got label maps of {self.maps.shape[1:]} voxels"
                + (f" with the ids {', '.join(map(str, sorted(unknown)))}" if unknown else "")
                + f"; expected {size}, the size of the model, and the ids 0 and {ids}."
            )

    def get(self, index: int) -> np.ndarray:
        """The map of the sample with number `index`."""
        return self.maps[index % len(self.maps)]

    def describe(self) -> dict[str, Any]:
        """Number of maps and their hash, for the manifest."""
        digest = hashlib.sha256(np.ascontiguousarray(self.maps).tobytes()).hexdigest()
        return {"kind": "label maps", "maps": len(self.maps), "sha256": digest}


def sample_shape(pipeline: LatentDiffusionPipeline) -> tuple[int, ...]:
    """Voxels along each axis of the images or volumes that a pipeline generates."""
    return tuple(pipeline.vae_scale_factor * side for side in pipeline.unet.config["sample_size"])


def label_image(labels: np.ndarray, affine: np.ndarray) -> nibabel.Nifti1Image:
    """A label map (H, W) or (X, Y, Z) as NIfTI, with the affine of the generated image."""
    volume = labels.T[..., None] if labels.ndim == 2 else labels
    return nibabel.Nifti1Image(volume.astype(np.min_scalar_type(int(labels.max()))), affine)


def _maps_of(path: Path, size: tuple[int, ...], spacing: float | None) -> np.ndarray:
    """Label maps (B, …) in a file."""
    scan = read(path, modality="labels")
    scan = scan.like(to_label_ids(scan.array, str(path)), "labels")
    matrix, shape = reorientation(scan.affine, scan.shape, "RAS")
    dims = len(size)
    edges = np.linalg.norm((scan.affine @ matrix)[:3, :dims], axis=0)
    grid = shape[1::-1] if dims == 2 else shape
    if tuple(grid) != size or (spacing is not None and (abs(edges - spacing) > SPACING_TOLERANCE).any()):
        raise ValueError(
            f"{path} has {tuple(grid)} voxels of {', '.join(f'{edge:.3g}' for edge in edges)} mm; expected {size} of "
            f"{spacing or 'any'} mm, as the model generates. Resample it to that grid by nearest neighbour."
        )
    return resample(scan.array, matrix, shape, nearest=True) if dims == 3 else _labelled_slices(scan)


def _labelled_slices(scan: Scan) -> np.ndarray:
    """Axial slices (B, H, W) with any label; a single slice also without."""
    cut = slices(scan).array[:, 0]
    return cut if len(cut) == 1 else cut[cut.any(axis=(1, 2))]
