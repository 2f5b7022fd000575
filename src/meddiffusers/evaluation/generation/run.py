"""A latent diffusion pipeline on held-out rows: volumes of their covariates, slices of their label maps or labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import torch

from meddiffusers.utils.seeds import sample_generators

VOLUMES_AT_ONCE, SLICES_AT_ONCE = 4, 16


def covariates_of(pipeline: Any, rows: datasets.Dataset) -> list[dict[str, Any]]:
    """What the pipeline can be told of rows as `data.volumes` has them, in their own units."""
    names = list(pipeline.unet.covariates)
    return [dict(row) for row in (rows.select_columns(names) if names else [{}] * len(rows))]


def generate_volumes(pipeline: Any, told: Sequence[Mapping[str, Any]], seed: int = 0, **settings: Any) -> np.ndarray:
    """Volumes (N, C, X, Y, Z) in [0, 1] of covariates, each from a generator of its own, which its number gives."""
    parts = []
    for first in range(0, len(told), VOLUMES_AT_ONCE):
        rows = told[first : first + VOLUMES_AT_ONCE]
        given: dict[str, Any] = {"covariates": rows} if any(rows) else {"batch_size": len(rows)}
        output = pipeline(
            generator=sample_generators(seed, len(rows), first), extrapolate=True, output_type="pt", **given, **settings
        )
        parts.append(output.images.cpu().numpy())
    return np.concatenate(parts)


def first_rater_masks(rows: datasets.Dataset) -> np.ndarray:
    """(N, H, W) label maps of the first rater, of rows as `data.segmentation_slices` has them."""
    return np.stack([np.asarray(masks)[0] for masks in rows.with_format("numpy")["masks"]])


def generate_slices(pipeline: Any, masks: np.ndarray, seed: int = 0, **settings: Any) -> np.ndarray:
    """Slices (N, C, H, W) in [0, 1], each from a generator of its own, which its number gives.

    masks: (N, H, W), of which the pipeline is told all, whether there is any foreground, or nothing, as it takes it.
    """
    parts = []
    for first in range(0, len(masks), SLICES_AT_ONCE):
        part = masks[first : first + SLICES_AT_ONCE]
        given = _told_of(pipeline, part)
        output = pipeline(generator=sample_generators(seed, len(part), first), output_type="pt", **given, **settings)
        parts.append(output.images.cpu().numpy())
    return np.concatenate(parts)


def _told_of(pipeline: Any, masks: np.ndarray) -> dict[str, Any]:
    if pipeline.unet.mask_labels:
        return {"mask": torch.from_numpy(masks.astype(np.int64))}
    if names := pipeline.unet.id2label:
        return {"label": [names[int(mask.any())] for mask in masks]}
    return {"batch_size": len(masks)}
