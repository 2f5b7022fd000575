"""Overlap of label maps with a reference: Dice, Jaccard and the 95th percentile of the surface distance (HD95).

A is the set of pixels with a label in the mask, B in the reference; d(a, B) is the distance in mm from a border pixel
of A to the border of B.

    Dice     2 |A ∩ B| / (|A| + |B|)
    Jaccard  |A ∩ B| / |A ∪ B|
    HD95     the larger of the 95th percentiles of d(a, B) over the border of A, and of d(b, A) over the border of B

                                      Dice, Jaccard    HD95
    A and B are empty                 NaN              NaN                      the image is skipped
    one is empty, the other is not    0                diagonal of the image    the largest possible distance

MONAI computes overlaps and distances (borders by binary erosion); the rules for empty masks are this module's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou


@dataclass(frozen=True, eq=False)
class Overlap:
    """Dice (0 to 1), Jaccard (0 to 1) and HD95 (mm) of images and labels, (…, L) each; means skip NaN."""

    dice: np.ndarray
    jaccard: np.ndarray
    hd95: np.ndarray

    def __getitem__(self, index: Any) -> Overlap:
        """Select images and labels."""
        return Overlap(self.dice[index], self.jaccard[index], self.hd95[index])

    def where(self, counts: np.ndarray) -> Overlap:
        """Set values to NaN where `counts`, which broadcasts to (…, L), is false."""
        return Overlap(*(np.where(counts, of, np.nan) for of in (self.dice, self.jaccard, self.hd95)))


def overlap(mask: np.ndarray, reference: np.ndarray, labels: Sequence[int], spacing: Sequence[float]) -> Overlap:
    """Compare label maps for each image and label.

    Args:
        mask: Predicted label map: slices (B, H, W) with two spacings, or a volume (X, Y, Z) with three.
        reference: Reference of the same shape.
        labels: L labels. For the whole foreground pass `mask > 0`, `reference > 0` and the label 1.
        spacing: Edge lengths of a pixel or voxel in mm.

    Returns:
        Scores of shape (B, L) for slices, (L,) for a volume.

    Raises:
        ValueError: The shapes differ, there are more spacings than axes, or a spacing is not positive.
    """
    _check(mask, reference, spacing)
    axes = mask.ndim - len(spacing)
    shape = mask.shape[axes:]
    diagonal = float(np.linalg.norm(np.multiply(shape, spacing)))
    pairs = zip(mask.reshape(-1, *shape), reference.reshape(-1, *shape), strict=True)
    scores = [
        _agreement(torch.from_numpy(a == label), torch.from_numpy(b == label), spacing, diagonal)
        for a, b in pairs
        for label in labels
    ]
    return Overlap(*np.array(scores).T.reshape(3, *mask.shape[:axes], len(labels)))


def _agreement(
    mask: torch.Tensor, reference: torch.Tensor, spacing: Sequence[float], diagonal: float
) -> tuple[float, float, float]:
    """Dice, Jaccard and HD95 of two binary masks."""
    one, other = bool(mask.any()), bool(reference.any())
    if not (one or other):
        return np.nan, np.nan, np.nan
    if not (one and other):
        return 0.0, 0.0, diagonal
    both = mask[None, None], reference[None, None]
    return (
        compute_dice(*both).item(),
        compute_iou(*both).item(),
        compute_hausdorff_distance(
            *both, include_background=True, percentile=95, spacing=[float(edge) for edge in spacing]
        ).item(),
    )


def _check(mask: np.ndarray, reference: np.ndarray, spacing: Sequence[float]) -> None:
    if mask.shape != reference.shape or mask.ndim < len(spacing):
        raise ValueError(
            f"overlap got a mask of shape {mask.shape}, a reference of shape {reference.shape} and spacing "
            f"{tuple(spacing)}; expected one shape, (B, H, W) with two spacings or (X, Y, Z) with three."
        )
    if not all(0 < edge < np.inf for edge in spacing):
        raise ValueError(f"overlap got spacing {tuple(spacing)}; expected the edge lengths of a pixel, mm, above 0.")
