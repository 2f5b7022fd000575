"""Baselines for the correction of cardiac sequences: the VAE's reconstruction, and Gaussian smoothing of its latents.

Painchaud et al., IEEE TMI 2022, compare with both. Their own method is `method="smooth"` of the pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

from meddiffusers.datasets.cardiac_sequences import CardiacSequence
from meddiffusers.evaluation.cardiac.result import CorrectedSequence, measure_segmentations
from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline
from meddiffusers.pipelines.meddiffusers_cardiac_labels_v1 import LV, MYO
from meddiffusers.pipelines.meddiffusers_cardiac_region_v1 import lv_region
from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipeline

SIGMA = 1.0  # frames


def run_reconstruction(
    pipeline: TemporalConsistencyPipeline, sequences: Sequence[CardiacSequence], segmented: Sequence[np.ndarray]
) -> list[CorrectedSequence]:
    """Encode and decode every frame."""
    return _run_decoded(pipeline, sequences, segmented, lambda latents: latents)


def run_gaussian(
    pipeline: TemporalConsistencyPipeline, sequences: Sequence[CardiacSequence], segmented: Sequence[np.ndarray]
) -> list[CorrectedSequence]:
    """Encode every frame, smooth each latent dimension over time with a Gaussian, and decode."""
    return _run_decoded(
        pipeline, sequences, segmented, lambda latents: gaussian_filter1d(latents, SIGMA, axis=0, mode="nearest")
    )


def _run_decoded(
    pipeline: TemporalConsistencyPipeline,
    sequences: Sequence[CardiacSequence],
    segmented: Sequence[np.ndarray],
    transform: Callable[[np.ndarray], np.ndarray],
) -> list[CorrectedSequence]:
    vae = AttributeVAEPipeline(pipeline.vae)
    results = []
    for sequence, frames in zip(sequences, segmented, strict=True):
        region = lv_region(frames, sequence.spacing, pipeline.vae.image_size[0], pipeline.config["spacing"])
        latents = vae.encode(region.crop(frames))
        transformed = torch.from_numpy(transform(latents.double().cpu().numpy())).to(latents)
        labels = np.asarray(vae.decode(transformed, output_type="np").images)
        lv, lv_myo = region.paste(labels == LV), region.paste((labels == LV) | (labels == MYO))
        results.append(np.where(lv_myo > 0.5, np.where(lv > 0.5, LV, MYO), 0).astype(np.uint8))
    return measure_segmentations(pipeline, sequences, results)
