"""Grid over noise level and guidance scale, as in Wolleb et al.: metrics and a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anomaly_quality import DATASET, rows_with_tumour
from matplotlib.figure import Figure

from meddiffusers.evaluation.anomaly.report import anomaly_metrics
from meddiffusers.evaluation.anomaly.result import run_anomaly
from meddiffusers.evaluation.figures.panels import DPI, to_image
from meddiffusers.evaluation.results import Bar
from meddiffusers.hub.load import load

STRENGTHS = (0.25, 0.5, 0.75)
SCALES = {"classifier": (20, 100, 500), "classifier_free": (1, 3, 8, 20)}
SLICES, STEPS = 20, 20
METRICS = {"AUROC": "auroc_pixels_tumour", "best Dice": "best_dice_pixels_tumour"}
FIGURE = Path("benchmarks/results/anomaly_grid.png")


def grid(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """No bars: metrics on the tumours, and a figure."""
    pipeline: Any = load(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    rows = rows_with_tumour(pipeline, SLICES)
    table = []
    for method, scales in SCALES.items():
        for strength in STRENGTHS:
            for scale in scales:
                result = run_anomaly(
                    pipeline,
                    rows,
                    seed,
                    method=method,
                    strength=strength,
                    guidance_scale=float(scale),
                    num_inference_steps=STEPS,
                    map_from="residual",
                )
                values = {metric.key: metric.value for metric in anomaly_metrics(result, DATASET, seed)}
                row = {"method": method, "L": strength, "s": scale}
                table.append(row | {name: values[key] for name, key in METRICS.items()})
                print(table[-1], flush=True)
    to_image(_figure(table)).save(FIGURE)
    return [], {"n": len(set(rows["subject"])), "slices": SLICES, "steps": STEPS, "table": table}


def _figure(table: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(8, 6), dpi=DPI)
    axes = figure.subplots(2, len(SCALES), squeeze=False)
    for column, method in enumerate(SCALES):
        for row, name in enumerate(METRICS):
            axis = axes[row][column]
            for strength in STRENGTHS:
                chosen = [each for each in table if each["method"] == method and each["L"] == strength]
                scales, values = zip(*((each["s"], each[name]) for each in chosen), strict=True)
                axis.plot(scales, values, marker="o", label=f"L = {strength:g} T")
            axis.set(xscale="log", xlabel="guidance scale s", ylabel=f"{name}, tumours", title=method.replace("_", "-"))
            axis.set_xticks(SCALES[method], labels=map(str, SCALES[method]))
            axis.set_xticks([], minor=True)
            axis.legend(fontsize=7)
    figure.tight_layout()
    return figure
