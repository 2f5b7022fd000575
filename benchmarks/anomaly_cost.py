"""Quality by number of steps, and the cost of a slice relative to the bare network passes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from anomaly_quality import DATASET, rows_with_tumour
from timing import ratio_in_turn

from meddiffusers import AnomalyDetectionPipeline
from meddiffusers.evaluation.anomaly.report import anomaly_metrics
from meddiffusers.evaluation.anomaly.result import run_anomaly
from meddiffusers.evaluation.results import Bar
from meddiffusers.hub.load import load
from meddiffusers.pipelines.anomaly_detection_pipeline import CONTRAST_TIMES

SLICES = 16
FEW, MANY, TABLE = 50, 500, (5, 10, 20, 50, 500)
ROUNDS, NOISES = 30, 4
AUROC, BEST_DICE = "auroc_pixels", "best_dice_pixels"


def steps(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """AUROC, best Dice and time by number of steps for the residual map, and their bars."""
    pipeline: Any = load(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    rows = rows_with_tumour(pipeline, SLICES)
    table = []
    for count in TABLE:
        began = time.perf_counter()
        result = run_anomaly(pipeline, rows, seed, num_inference_steps=count, map_from="residual")
        seconds = (time.perf_counter() - began) / SLICES
        values = {metric.key: metric.value for metric in anomaly_metrics(result, DATASET, seed)}
        table.append({"steps": count, "seconds": seconds} | {key: values[key] for key in (AUROC, BEST_DICE)})
        print(table[-1], flush=True)
    by_steps = {row["steps"]: row for row in table}
    lost, faster = by_steps[MANY][AUROC] - by_steps[FEW][AUROC], by_steps[MANY]["seconds"] / by_steps[FEW]["seconds"]
    bars = [
        Bar(f"steps: AUROC lost by {FEW} + {FEW} instead of {MANY} + {MANY}", lost, "<=", 0.005),
        Bar(f"steps: times faster with {FEW} + {FEW}", faster, ">=", 8),
    ]
    return bars, {"n": len(set(rows["subject"])), "table": table, "slices": SLICES}


def cost(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """Cost of a slice relative to its bare network passes."""
    pipeline: Any = load(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    (guided, seconds), (labelled, by_labels) = _a_slice(pipeline, seed)
    bars = [
        Bar(f"cost: a slice, {FEW} + {FEW} steps, over its network and gradient passes", guided, "<=", 1.05),
        Bar("cost: a slice with labels and label contrast, over its network passes", labelled, "<=", 1.05),
    ]
    return bars, {"n": ROUNDS, "seconds a slice": seconds, "by labels": by_labels}


@torch.inference_mode()
def _a_slice(pipeline: AnomalyDetectionPipeline, seed: int) -> list[tuple[float, float]]:
    """Ratio to the bare passes, and seconds, of calls with classifier guidance and with labels."""
    size = pipeline.unet.config["sample_size"]
    image = torch.rand(1, len(pipeline.modalities), size, size, generator=torch.Generator().manual_seed(seed))

    def whole() -> None:
        pipeline(image, method="classifier", map_from="residual", num_inference_steps=FEW)

    def bare() -> None:
        for step in range(FEW):
            pipeline.unet(image, step)
        for step in range(FEW):
            pipeline.unet(image, step)
            pipeline.classifier.gradient(image, step, 0)

    def default() -> None:
        pipeline(image, num_inference_steps=FEW, num_noise_samples=NOISES)

    def passes() -> None:
        for step in range(3 * FEW + 2 * len(CONTRAST_TIMES) * NOISES):
            pipeline.unet(image, step)

    return [ratio_in_turn(*pair, rounds=ROUNDS) for pair in ((whole, bare), (default, passes))]
