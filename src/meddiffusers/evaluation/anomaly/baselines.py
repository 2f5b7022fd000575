"""Baselines of anomaly detection: a threshold on a bright modality, and reconstruction without guidance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import datasets
import numpy as np
import torch

from meddiffusers.evaluation.anomaly.result import AnomalyResult, run_anomaly
from meddiffusers.pipelines.anomaly_detection_pipeline import AnomalyDetectionPipeline
from meddiffusers.pipelines.meddiffusers_anomaly_maps_v1 import SMOOTHING, otsu_threshold, slice_scores, smooth


def run_threshold(result: AnomalyResult, smoothing: float = SMOOTHING) -> AnomalyResult:
    """Use the smoothed intensity as the anomaly map (Meissen et al. 2022, "On the pitfalls of using the residual error
    as anomaly score").

    Args:
        result: Slices with the modality to threshold as `images`: FLAIR, in which lesions are bright, if there is one.
        smoothing: σ of the Gaussian filter, in pixels.

    Returns:
        The same slices with the maps, masks and scores of the baseline.
    """
    return result_from_map(result, np.where(result.head, result.images, 0), smoothing=smoothing)


def run_unguided(
    pipeline: AnomalyDetectionPipeline, rows: datasets.Dataset, seed: int = 0, **settings: Any
) -> AnomalyResult:
    """Add noise and denoise without any label, as AnoDDPM does (Wyatt et al. 2022), but with Gaussian noise.

    Args:
        pipeline: The pipeline whose denoiser is used.
        rows: Labelled slices, as `run_anomaly` takes them.
        seed: Seed of the noise.
        **settings: Further arguments of the pipeline.
    """
    method = {"method": "none", "encoding": "noise", "map_from": "residual", "smoothing": SMOOTHING}
    return run_anomaly(pipeline, rows, seed, **method, **settings)


def result_from_map(
    result: AnomalyResult, maps: np.ndarray, counterfactuals: np.ndarray | None = None, smoothing: float = 0.0
) -> AnomalyResult:
    """The result of another detector on the same slices.

    Args:
        result: Result on these slices, with images, reference and head.
        maps: (B, H, W) anomaly maps of the other detector.
        counterfactuals: (B, H, W) healthy versions of the images; the images themselves if there are none.
        smoothing: σ of the Gaussian filter for the maps, in pixels.

    Returns:
        The result with these maps; masks by Otsu's threshold, scores from the highest values, as in the pipeline.
    """
    head = torch.from_numpy(result.head)
    values = smooth(torch.from_numpy(maps.astype(np.float32)), smoothing)
    return replace(
        result,
        maps=values.numpy(),
        masks=values.numpy() > otsu_threshold(values[head]),
        scores=slice_scores(values, head).numpy(),
        counterfactuals=result.images if counterfactuals is None else counterfactuals,
    )
