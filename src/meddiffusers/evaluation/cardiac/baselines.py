"""What a repair of heart sequences has to beat: the VAE's reconstruction alone, and Gaussian smoothing of its latents.

Both are in the table of Painchaud et al., IEEE TMI 2022; so is their own method, which the pipeline has as "smooth".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

from meddiffusers.datasets.cardiac_sequences import HeartSequence
from meddiffusers.evaluation.cardiac.result import RepairedSequence, as_segmented
from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline
from meddiffusers.pipelines.meddiffusers_heart_windows_v1 import heart_window
from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipeline

SIGMA = 1.0  # frames


def run_reconstruction(
    pipeline: TemporalConsistencyPipeline, sequences: Sequence[HeartSequence], segmented: Sequence[np.ndarray]
) -> list[RepairedSequence]:
    """Every frame encoded and decoded, nothing else."""
    return _run_decoded(pipeline, sequences, segmented, lambda latents: latents)


def run_gaussian(
    pipeline: TemporalConsistencyPipeline, sequences: Sequence[HeartSequence], segmented: Sequence[np.ndarray]
) -> list[RepairedSequence]:
    """Every latent dimension smoothed by a Gaussian over the frames."""
    return _run_decoded(
        pipeline, sequences, segmented, lambda latents: gaussian_filter1d(latents, SIGMA, axis=0, mode="nearest")
    )


def _run_decoded(
    pipeline: TemporalConsistencyPipeline,
    sequences: Sequence[HeartSequence],
    segmented: Sequence[np.ndarray],
    change: Callable[[np.ndarray], np.ndarray],
) -> list[RepairedSequence]:
    vae: Any = AttributeVAEPipeline(pipeline.vae)
    drawn = []
    for sequence, frames in zip(sequences, segmented, strict=True):
        window = heart_window(frames, sequence.spacing, pipeline.vae.image_size[0], pipeline.config["spacing"])
        latents = vae.encode(window.cut(frames))
        changed = torch.from_numpy(change(latents.double().cpu().numpy())).to(latents)
        labels = vae.decode(changed, output_type="np").images
        heart, cavity = (window.paste((labels >= first) & (labels <= last)) for first, last in ((1, 2), (1, 1)))
        drawn.append(np.where(heart > 0.5, np.where(cavity > 0.5, 1, 2), 0).astype(np.uint8))
    return as_segmented(pipeline, sequences, drawn)
