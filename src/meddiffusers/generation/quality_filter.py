"""Quality filter of a synthetic data set: find failed samples and copies of known images.

| metric of a sample | flagged |
|---|---|
| "foreground", the fraction of voxels that are not black | outside the known images' range, widened by `SLACK` |
| "nearest", the RMS difference to the nearest known image or its mirror image, at `COARSE` voxels a side | below the least between two known images |
| its values | not finite |
"""  # noqa: E501  a table

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

COARSE = 16
BLACK = 0.02  # of the range [0, 1]
SLACK = 0.1  # relative, at both ends


@dataclass(frozen=True)
class QualityFilter:
    """Check of generated images against known ones. Build it with `QualityFilter.fit`.

    Args:
        known: (M, D) coarse known images and their mirror images.
        foreground: least and greatest fraction of foreground.
        limit: RMS distance below which a sample is a copy.
    """

    known: torch.Tensor
    foreground: tuple[float, float]
    limit: float

    @classmethod
    def fit(cls, images: Iterable[np.ndarray], axis: int) -> QualityFilter:
        """Derive the limits from known images.

        Args:
            images: two or more images (C, …) in [0, 1].
            axis: axis of these arrays that runs from left to right.

        Raises:
            ValueError: fewer than two images.
        """
        original, mirrored, fractions = [], [], []
        for image in images:
            original.append(_coarse(image))
            mirrored.append(_coarse(np.flip(image, axis).copy()))
            fractions.append(_foreground(image))
        if len(original) < 2:
            raise ValueError(f"Got {len(original)} known images; expected two or more to compare with.")
        one, both = torch.stack(original), torch.stack([*original, *mirrored])
        distances = torch.cdist(one, both)
        own = torch.arange(len(one))
        distances[own, own] = distances[own, own + len(one)] = torch.inf  # an image is not a copy of itself
        limit = float(distances.min()) / both.shape[1] ** 0.5
        return cls(both, (min(fractions) * (1 - SLACK), max(fractions) * (1 + SLACK)), limit)

    def check(self, image: np.ndarray) -> dict[str, float | str]:
        """Metrics and issues of a generated image.

        Args:
            image: (C, …) in [0, 1].

        Returns:
            "foreground" and "nearest" (see the module's table), and "issues", a comma-separated text of "foreground",
            "copy" or "not finite", empty if there are none.
        """
        if not np.isfinite(image).all():
            return {"foreground": float("nan"), "nearest": float("nan"), "issues": "not finite"}
        fraction, (low, high) = _foreground(image), self.foreground
        distance = torch.cdist(_coarse(image)[None], self.known).min() / self.known.shape[1] ** 0.5
        issues = ["foreground"] * (not low <= fraction <= high) + ["copy"] * bool(distance < self.limit)
        return {"foreground": fraction, "nearest": float(distance), "issues": ", ".join(issues)}


def _coarse(image: np.ndarray) -> torch.Tensor:
    """(D,) averages over `COARSE` blocks along each axis."""
    pool = F.adaptive_avg_pool3d if image.ndim == 4 else F.adaptive_avg_pool2d
    return pool(torch.from_numpy(np.ascontiguousarray(image, np.float32))[None], COARSE).flatten()


def _foreground(image: np.ndarray) -> float:
    return float((image > BLACK).mean())
