"""What a detector of anomalies has to beat: a threshold on a bright modality, and reconstruction without guidance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import datasets
import numpy as np
import torch

from meddiffusers.evaluation.anomaly.result import AnomalyResult, run_anomaly
from meddiffusers.pipelines.anomaly_detection_pipeline import AnomalyDetectionPipeline
from meddiffusers.pipelines.meddiffusers_anomaly_maps_v1 import SMOOTHING, otsu, slice_scores, smoothed


def run_threshold(result: AnomalyResult, smoothing: float = SMOOTHING) -> AnomalyResult:
    """The intensity itself, smoothed, as the map, of the slices and the modality that `result` draws: FLAIR if it can.

    Lesions are bright there, and a threshold on it is what radiology has used for long (Meissen et al. 2022, "On the
    pitfalls of using the residual error as anomaly score").
    """
    return result_from_map(result, np.where(result.head, result.images, 0), smoothing=smoothing)


def run_unguided(
    pipeline: AnomalyDetectionPipeline, rows: datasets.Dataset, seed: int = 0, **settings: Any
) -> AnomalyResult:
    """Noised halfway and denoised with nothing said of the label, as AnoDDPM does (Wyatt et al. 2022).

    Its noise is Gaussian here, as the model was trained with; `settings` go to the pipeline.
    """
    way = {"method": "none", "encoding": "noise", "map_from": "change", "smoothing": SMOOTHING}
    return run_anomaly(pipeline, rows, seed, **way, **settings)


def result_from_map(
    result: AnomalyResult, maps: np.ndarray, counterfactuals: np.ndarray | None = None, smoothing: float = 0.0
) -> AnomalyResult:
    """Another detector's maps (N, H, W) of the same slices; masks by Otsu, scores by the highest values, as ours."""
    head = torch.from_numpy(result.head)
    values = smoothed(torch.from_numpy(maps.astype(np.float32)), smoothing)
    return replace(
        result,
        maps=values.numpy(),
        masks=values.numpy() > otsu(values[head]),
        scores=slice_scores(values, head).numpy(),
        counterfactuals=result.images if counterfactuals is None else counterfactuals,
    )
