"""Run a latent diffusion pipeline on held-out rows: volumes from covariates, slices from label maps or labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import torch

from meddiffusers.pipelines.latent_diffusion_pipeline import LatentDiffusionPipeline
from meddiffusers.utils.seeds import sample_generators

VOLUME_BATCH, SLICE_BATCH = 4, 16


def covariates_of(pipeline: LatentDiffusionPipeline, rows: datasets.Dataset) -> list[dict[str, Any]]:
    """The covariates that condition the pipeline, in their own units, for rows as `datasets.volumes` makes them."""
    names = list(pipeline.unet.covariates)
    return [dict(row) for row in (rows.select_columns(names) if names else [{}] * len(rows))]


def generate_volumes(
    pipeline: LatentDiffusionPipeline, covariates: Sequence[Mapping[str, Any]], seed: int = 0, **settings: Any
) -> np.ndarray:
    """Generate one volume for each row of covariates.

    Args:
        pipeline: The pipeline to run.
        covariates: B rows, in the covariates' own units; values outside the training range are accepted.
        seed: Seed of the noise; that of volume i depends on (seed, i) only.
        **settings: Further arguments of the pipeline.

    Returns:
        (B, C, X, Y, Z) in [0, 1].
    """
    batches = []
    for first in range(0, len(covariates), VOLUME_BATCH):
        rows = covariates[first : first + VOLUME_BATCH]
        condition: dict[str, Any] = {"covariates": rows} if any(rows) else {"batch_size": len(rows)}
        generators = sample_generators(seed, len(rows), first)
        output = pipeline(generator=generators, extrapolate=True, output_type="pt", **condition, **settings)
        batches.append(output.images.cpu().numpy())
    return np.concatenate(batches)


def first_rater_masks(rows: datasets.Dataset) -> np.ndarray:
    """(B, H, W) label maps of the first rater, from rows as `datasets.labelled_slices` makes them."""
    return np.stack([np.asarray(masks)[0] for masks in rows.with_format("numpy")["masks"]])


def generate_slices(pipeline: LatentDiffusionPipeline, masks: np.ndarray, seed: int = 0, **settings: Any) -> np.ndarray:
    """Generate one slice for each label map.

    Args:
        pipeline: The pipeline to run. It is conditioned on what it supports: the label map, a label that says whether
            there is any foreground, or nothing.
        masks: Label maps (B, H, W).
        seed: Seed of the noise; that of slice i depends on (seed, i) only.
        **settings: Further arguments of the pipeline.

    Returns:
        (B, C, H, W) in [0, 1].
    """
    batches = []
    for first in range(0, len(masks), SLICE_BATCH):
        batch = masks[first : first + SLICE_BATCH]
        condition, generators = _condition(pipeline, batch), sample_generators(seed, len(batch), first)
        output = pipeline(generator=generators, output_type="pt", **condition, **settings)
        batches.append(output.images.cpu().numpy())
    return np.concatenate(batches)


def _condition(pipeline: LatentDiffusionPipeline, masks: np.ndarray) -> dict[str, Any]:
    if pipeline.unet.mask_labels:
        return {"mask": torch.from_numpy(masks.astype(np.int64))}
    if names := pipeline.unet.id2label:
        return {"label": [names[int(mask.any())] for mask in masks]}
    return {"batch_size": len(masks)}
