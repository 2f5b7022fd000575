"""The quality gate of a synthetic data set: samples that failed, and samples that are known volumes again.

| figure of a sample | flagged |
|---|---|
| "foreground", the part of it that is not black | outside the known volumes' range, widened by `SLACK` |
| "nearest", RMS difference to the nearest known volume or its mirror image, at `COARSE` voxels a side | below the least that two known volumes have |
| its values | not finite |
"""  # noqa: E501  a table

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

COARSE = 16
BLACK = 0.02  # of the range [0, 1]
SLACK = 0.1  # of the ends


@dataclass(frozen=True)
class QualityFilter:
    """known: (M, D) coarse volumes and their mirror images; foreground: ends of its part; limit: of the distance."""

    known: torch.Tensor
    foreground: tuple[float, float]
    limit: float

    @classmethod
    def of(cls, volumes: Iterable[np.ndarray], axis: int) -> QualityFilter:
        """Of known volumes (C, …) in [0, 1], two or more; `axis`, of these, runs from left to right.

        Raises:
            ValueError: fewer than two.
        """
        straight, turned, parts = [], [], []
        for volume in volumes:
            straight.append(_coarse(volume))
            turned.append(_coarse(np.flip(volume, axis).copy()))
            parts.append(_foreground(volume))
        if len(straight) < 2:
            raise ValueError(f"Got {len(straight)} known volumes; expected two or more to compare with.")
        one, both = torch.stack(straight), torch.stack([*straight, *turned])
        apart = torch.cdist(one, both)
        own = torch.arange(len(one))
        apart[own, own] = apart[own, own + len(one)] = torch.inf  # nothing is a copy of itself
        limit = float(apart.min()) / both.shape[1] ** 0.5
        return cls(both, (min(parts) * (1 - SLACK), max(parts) * (1 + SLACK)), limit)

    def check(self, volume: np.ndarray) -> dict[str, Any]:
        """Metrics of a volume (C, …) in [0, 1], and its issues, "" if it has none."""
        if not np.isfinite(volume).all():
            return {"foreground": float("nan"), "nearest": float("nan"), "issues": "not finite"}
        part, (low, high) = _foreground(volume), self.foreground
        distance = torch.cdist(_coarse(volume)[None], self.known).min() / self.known.shape[1] ** 0.5
        issues = ["foreground"] * (not low <= part <= high) + ["copy"] * bool(distance < self.limit)
        return {"foreground": part, "nearest": float(distance), "issues": ", ".join(issues)}


def _coarse(volume: np.ndarray) -> torch.Tensor:
    """(D,) averages over a few parts of each side."""
    pool = F.adaptive_avg_pool3d if volume.ndim == 4 else F.adaptive_avg_pool2d
    return pool(torch.from_numpy(np.ascontiguousarray(volume, np.float32))[None], COARSE).flatten()


def _foreground(volume: np.ndarray) -> float:
    return float((volume > BLACK).mean())
