"""Label maps of the left ventricle over time: their labels, checks, and conversion from scans and back.

Functions that published pipelines import from beside them. The file is published with each of these pipelines.

Label values follow CAMUS (Leclerc et al., IEEE TMI 2019): 0 background, 1 left-ventricular cavity (LV), 2 myocardium
(MYO), 3 left atrium (LA).
"""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
import torch

PUBLISHED_AS = "meddiffusers_cardiac_labels_v1"  # the file has the same name in a repository
BACKGROUND, LV, MYO, LA = 0, 1, 2, 3
WHOLE = 1e-3  # by which a scaled label may differ from an integer


def to_label_maps(sequence: Any) -> np.ndarray:
    """Convert a sequence to label maps and check them.

    Args:
        sequence: Array or tensor `(T, H, W)`, or one frame `(H, W)`. Floats are rounded if they are whole within 1e-3,
            as a slope in a header leaves them.

    Returns:
        Label maps `(T, H, W)`, uint8.

    Raises:
        ValueError: If the number of axes is not 2 or 3, the sequence is empty, or it holds labels other than 0 to 3.
    """
    labels = np.asarray(sequence.cpu() if isinstance(sequence, torch.Tensor) else sequence)
    labels = labels[None] if labels.ndim == 2 else labels
    if labels.ndim != 3 or not labels.size:
        raise ValueError(f"Got a sequence of shape {np.shape(sequence)}; expected label maps (T, H, W).")
    if labels.dtype.kind == "f":
        labels = np.where(np.isclose(labels, labels.round(), rtol=0, atol=WHOLE), labels.round(), labels)
    values = np.unique(labels)
    if not np.isin(values, (BACKGROUND, LV, MYO, LA)).all():
        raise ValueError(
            f"Got the labels {', '.join(f'{value:g}' for value in values[:8])}; expected 0 background, "
            "1 left-ventricular cavity, 2 myocardium, 3 left atrium. Map your labels to these."
        )
    return labels.astype(np.uint8)


def to_scan(sequence: Any) -> Any:
    """Return the `Scan` that `sequence` is or whose path it gives; None if it is an array.

    Raises:
        ImportError: If a path is given and the package meddiffusers is not installed.
    """
    if isinstance(sequence, (str, PathLike)):
        try:
            from meddiffusers.data.io import read
        except ImportError as error:
            raise ImportError(
                "Reading scans requires the package meddiffusers, which is not installed. "
                "Install it, or pass arrays (T, H, W)."
            ) from error
        return read(sequence, modality="labels")
    return sequence if hasattr(sequence, "affine") else None


def scan_to_frames(scan: Any) -> np.ndarray:
    """Return the frames `(T, H, W)` of a scan; rows run along its second axis, columns along its first.

    Args:
        scan: `Scan` whose array `(C, X, Y, Z)` holds the frames as channels of one slice, or along the last axis.

    Raises:
        ValueError: If the scan has several channels and several slices.
    """
    if _has_frames_in_channels(scan):
        if scan.array.shape[3] != 1:
            raise ValueError(
                f"Got {scan.array.shape[0]} channels of {scan.shape} voxels; expected frames of one slice."
            )
        return scan.array[:, :, :, 0].transpose(0, 2, 1)
    return scan.array[0].transpose(2, 1, 0)


def frames_to_voxels(scan: Any, labels: np.ndarray) -> np.ndarray:
    """Invert `scan_to_frames`: the array of `scan`, in its type, with the frames `(T, H, W)` in place of its own."""
    voxels = labels.transpose(0, 2, 1)[..., None] if _has_frames_in_channels(scan) else labels.transpose(2, 1, 0)[None]
    return voxels.astype(scan.array.dtype)


def frame_spacing(scan: Any) -> tuple[float, float]:
    """Return the distances in mm between rows and between columns of these frames."""
    return scan.spacing[1], scan.spacing[0]


def _has_frames_in_channels(scan: Any) -> bool:
    return scan.array.shape[0] > 1
