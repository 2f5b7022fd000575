"""Quality of the shipped model against a threshold on FLAIR, an autoencoder, and the same network without guidance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
from anomaly_vae import run_vae, trained_vae

from meddiffusers import AnomalyDetectionPipeline
from meddiffusers.datasets.labelled_config import load_test_split_for
from meddiffusers.evaluation.anomaly.baselines import run_threshold, run_unguided
from meddiffusers.evaluation.anomaly.report import anomaly_metrics
from meddiffusers.evaluation.anomaly.result import AnomalyResult, displayed_channel, run_anomaly
from meddiffusers.evaluation.results import Bar, Metric
from meddiffusers.hub.load import load

DATASET, MINUTES = "phantom, hard, held out", 20.0
SLICES = 240  # of 120 subjects
STEPS = 10  # of the counterfactual, on which the map of the label contrast does not depend
TUMOURS = ("auroc_pixels_tumour", "best_dice_pixels_tumour")


def quality(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """The bars of quality, and all metrics of all detectors."""
    pipeline: Any = load(checkpoint)
    rows = load_test_split_for(pipeline, "phantom", ["lesion"], num_proc=2).select(range(SLICES))
    ours = run_anomaly(pipeline, rows, seed, num_inference_steps=STEPS)
    vae, training = trained_vae(MINUTES)
    results = {
        "ours": ours,
        "without guidance": run_unguided(pipeline, rows, seed),
        "FLAIR": run_threshold(ours),
        "autoencoder": run_vae(vae, rows, ours, displayed_channel(pipeline.modalities)),
    }
    metrics = {name: _metrics(result, seed) for name, result in results.items()}
    best = {name: max(metrics[other][name].high for other in results if other != "ours") for name in TUMOURS}
    mine = metrics["ours"]
    bars = [
        Bar("anomaly: held-out hard subjects", len(set(ours.subjects)), ">=", 60),
        Bar("anomaly: pixel AUROC, tumours", mine[TUMOURS[0]].value, ">=", 0.97),
        Bar("anomaly: best Dice, tumours", mine[TUMOURS[1]].value, ">=", 0.60),
        *(
            Bar(f"anomaly: {name}, lower end over the baselines' upper ends", mine[name].low - best[name], ">=", 0)
            for name in TUMOURS
        ),
        Bar("anomaly: AUROC of slices", mine["auroc_slices"].value, ">=", 0.95),
    ]
    table = {
        name: {key: [round(value, 4) for value in (one.value, one.low, one.high)] for key, one in values.items()}
        for name, values in metrics.items()
    }
    return bars, {"n": len(set(ours.subjects)), "training of the autoencoder": training, "value, low, high": table}


def rows_with_tumour(pipeline: AnomalyDetectionPipeline, count: int) -> datasets.Dataset:
    """The first test slices that show a tumour."""
    rows = load_test_split_for(pipeline, "phantom", ["lesion"], num_proc=2)
    kinds, shown = np.array(rows["lesion"]), [mask.any() for mask in rows.with_format("numpy")["reference"]]
    return rows.select(np.flatnonzero((kinds == "tumour") & shown)[:count])


def _metrics(result: AnomalyResult, seed: int) -> dict[str, Metric]:
    return {metric.key: metric for metric in anomaly_metrics(result, DATASET, seed)}
