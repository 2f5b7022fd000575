"""Sequences of label maps as a pipeline takes them: arrays, or scans whose frames are an axis, and the way back.

A file of plain functions that published pipelines import from beside them; it is published with each.
"""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
import torch

PUBLISHED_AS = "meddiffusers_heart_scans_v1"  # file name in a repository; here the same, so that both find it
LABELS = (0, 1, 2, 3)  # outside, cavity, wall, left atrium


def checked_labels(sequence: Any) -> np.ndarray:
    """Label maps (T, H, W) uint8 of an array or tensor (T, H, W) or (H, W).

    Raises:
        ValueError: another number of axes, nothing, or labels other than 0 to 3.
    """
    labels = np.asarray(sequence.cpu() if isinstance(sequence, torch.Tensor) else sequence)
    labels = labels[None] if labels.ndim == 2 else labels
    if labels.ndim != 3 or not labels.size:
        raise ValueError(f"Got a sequence of shape {np.shape(sequence)}; expected label maps (T, H, W).")
    found = np.unique(labels)
    if not np.isin(found, LABELS).all():
        raise ValueError(
            f"Got the labels {', '.join(f'{label:g}' for label in found[:8])}; expected 0 outside, 1 cavity of the "
            "left ventricle, 2 its wall, 3 left atrium. Map yours to these."
        )
    return labels.astype(np.uint8)


def scan_of(sequence: Any) -> Any:
    """The scan that this is or names; None where it is an array."""
    if isinstance(sequence, (str, PathLike)):
        try:
            from meddiffusers.data.io import read
        except ImportError as error:
            raise ImportError(
                "Reading scans is the work of the package meddiffusers, which is not installed here. "
                "Install it, or give arrays (T, H, W)."
            ) from error
        return read(sequence, modality="labels")
    return sequence if hasattr(sequence, "affine") else None


def _in_channels(scan: Any) -> bool:
    """Whether the frames are the scan's channels, each one slice, rather than its last axis."""
    return scan.array.shape[0] > 1


def frames_of(scan: Any) -> np.ndarray:
    """(T, H, W): rows along the second axis, columns along the first; frames are channels of a slice, or the last axis.

    Raises:
        ValueError: several channels of several slices.
    """
    if _in_channels(scan):
        if scan.array.shape[3] != 1:
            raise ValueError(
                f"Got {scan.array.shape[0]} channels of {scan.shape} voxels; expected frames of one slice."
            )
        return scan.array[:, :, :, 0].transpose(0, 2, 1)
    return scan.array[0].transpose(2, 1, 0)


def voxels_of(scan: Any, labels: np.ndarray) -> np.ndarray:
    """The way back of `frames_of`, in the scan's type."""
    voxels = labels.transpose(0, 2, 1)[..., None] if _in_channels(scan) else labels.transpose(2, 1, 0)[None]
    return voxels.astype(scan.array.dtype)


def spacing_of(scan: Any) -> tuple[float, float]:
    """mm from row to row and from column to column of those frames."""
    return scan.spacing[1], scan.spacing[0]
