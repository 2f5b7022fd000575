"""Predictions of a segmentation model on held-out slices with the reference: the input of its evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

CLOSE = 1e-3  # tolerance of the sum of probabilities, which may have been computed in half precision


@dataclass(frozen=True, eq=False)
class SegmentationResult:
    """Predictions and reference for B slices, K classes with background first, M samples of the model and R raters.

    Args:
        mask: (B, H, W) uint8 predicted label ids, 0 to K − 1. Rows go down, columns right.
        probability: (B, K, H, W) float32, sums to 1 over the classes.
        uncertainty: (B, H, W) float32 in any unit; higher is less certain.
        samples: (B, M, H, W) uint8 label ids of each sample.
        raters: (B, R, H, W) uint8 label ids of each rater; R = 1 for a single rater.
        reference: (B, H, W) uint8 label ids that the mask is compared with.
        images: (B, H, W) float32 in [0, 1], one modality for figures.
        subjects: B names, the subject of each slice.
        spacing: Pixel spacing (row, column) in mm.
        id2label: Names of the ids 0 to K − 1; 0 is background.
        foregrounds: (B, H, W) float32 probability of any class but background by its source, "prior" and "samples", if
            the model has both; `probability` is one of them.

    Raises:
        ValueError: Shapes, types or values are not as described.
    """

    mask: np.ndarray
    probability: np.ndarray
    uncertainty: np.ndarray
    samples: np.ndarray
    raters: np.ndarray
    reference: np.ndarray
    images: np.ndarray
    subjects: Sequence[str]
    spacing: tuple[float, float]
    id2label: Mapping[int, str]
    foregrounds: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_shapes()
        self._check_classes()
        self._check_values()
        edges = tuple(self.spacing)
        if len(edges) != 2 or not all(0 < edge < np.inf for edge in edges):
            raise ValueError(f"spacing={self.spacing!r}; expected (row, column) edge lengths of a pixel, mm.")

    @property
    def foreground(self) -> np.ndarray:
        """(B, H, W) probability of any class but background, in [0, 1]."""
        return (1 - self.probability[:, 0]).clip(0, 1)

    @property
    def area(self) -> np.ndarray:
        """(B,) area of the reference's foreground in mm²."""
        return np.count_nonzero(self.reference, axis=(1, 2)) * self.spacing[0] * self.spacing[1]

    def _check_shapes(self) -> None:
        n, *size = expected = self.reference.shape
        if len(expected) != 3 or 0 in expected:
            raise ValueError(f"reference has shape {expected}; expected (B, H, W) of one slice or more.")
        for name in ("mask", "uncertainty", "images"):
            if (shape := getattr(self, name).shape) != expected:
                raise ValueError(f"{name} has shape {shape}; expected {expected}, the shape of the reference.")
        for name, letter in (("probability", "K"), ("samples", "M"), ("raters", "R")):
            shape = getattr(self, name).shape
            if len(shape) != 4 or shape[1] == 0 or (shape[0], *shape[2:]) != expected:
                raise ValueError(f"{name} has shape {shape}; expected ({n}, {letter}, {size[0]}, {size[1]}).")
        for name, foreground in self.foregrounds.items():
            if foreground.shape != expected:
                raise ValueError(f"foregrounds[{name!r}] has shape {foreground.shape}; expected {expected}.")
        if len(self.subjects) != n:
            raise ValueError(f"Got {len(self.subjects)} subjects for {n} slices; expected a name for each slice.")

    def _check_classes(self) -> None:
        classes = self.probability.shape[1]
        if classes < 2 or sorted(self.id2label) != list(range(classes)):
            raise ValueError(
                f"id2label names the ids {sorted(self.id2label)} and there are probabilities of {classes} classes; "
                f"expected two or more, background first, and a name for each of 0 to {classes - 1}."
            )
        if len(set(self.id2label.values())) < classes:
            raise ValueError(f"id2label has the names {', '.join(self.id2label.values())}; expected each once.")
        for name in ("mask", "samples", "raters", "reference"):
            labels = getattr(self, name)
            if labels.dtype != np.uint8 or labels.max() >= classes:
                raise ValueError(
                    f"{name} holds {labels.dtype} up to {labels.max()}; expected uint8 label ids, 0 to {classes - 1}: "
                    "map the labels to consecutive ids first."
                )

    def _check_values(self) -> None:
        total, least = self.probability.sum(axis=1), self.probability.min()
        if not (least >= -CLOSE and (np.abs(total - 1) <= CLOSE).all()):  # which NaN is not either
            raise ValueError(
                f"probability is at least {least:g} and sums to {total.min():g} to {total.max():g} over the classes; "
                "expected 0 or more and 1: apply the softmax over axis 1."
            )
        if not np.isfinite(self.uncertainty).all():
            raise ValueError("uncertainty holds NaN or infinite values; expected finite ones.")
        if not (self.images.min() >= 0 and self.images.max() <= 1):
            raise ValueError(
                f"images range from {self.images.min():g} to {self.images.max():g}; expected [0, 1]: scale the channel."
            )
