"""What more training is worth: metrics of the tumours by the minutes that the network was trained to know labels.

It reads what training/train_image_diffusion.py leaves behind with the configurations image_diffusion_brain.yaml and
image_diffusion_brain_labels.yaml.

    python benchmarks/anomaly_curve.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anomaly import CHECKPOINT
from anomaly_quality import DATASET, TUMOURS, rows_with_tumour
from matplotlib.figure import Figure
from parts import run_parts

from meddiffusers import AnomalyDetectionPipeline, PatchUNet2DModel
from meddiffusers.evaluation.anomaly.report import anomaly_metrics
from meddiffusers.evaluation.anomaly.result import run_anomaly
from meddiffusers.evaluation.figures.panels import DPI, to_image
from meddiffusers.evaluation.results import Bar
from meddiffusers.hub.load import load

BEFORE = Path("runs/image-diffusion-brain")  # of training/configs/image_diffusion_brain.yaml
RUN = Path("runs/image-diffusion-brain-labels")  # of training/configs/image_diffusion_brain_labels.yaml
SLICES = 20
IMAGE = Path("benchmarks/results/anomaly_curve.png")


def curve(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """No bar: the metrics of every checkpoint that the training left behind, and a image of them."""
    saved = sorted(RUN.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    if not saved:
        raise FileNotFoundError(f"{RUN} holds no checkpoints; train it with the configuration image_diffusion_brain_labels.")
    pipeline: Any = load(checkpoint)
    rows = rows_with_tumour(pipeline, SLICES)
    table = []
    for folder in (None, *saved):
        unet = PatchUNet2DModel.from_pretrained(folder / "unet_ema" if folder else BEFORE / "unet").eval()
        other = AnomalyDetectionPipeline.from_pipe(pipeline, unet=unet)
        result = run_anomaly(other, rows, seed, num_inference_steps=1)  # which the map does not depend on
        found = {metric.name: metric.value for metric in anomaly_metrics(result, DATASET, seed)}
        state = json.loads((folder / "trainer_state.json").read_text()) if folder else {"step": 0, "seconds": 0}
        row = {"steps": state["step"], "minutes": state["seconds"] / 60} | {name: found[name] for name in TUMOURS}
        table.append(row)
        print(row, flush=True)
    to_image(_figure(table)).save(IMAGE)
    return [], {"n": len(set(rows["subject"])), "slices": SLICES, "table": table}


def _figure(table: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(8, 3.2), dpi=DPI)
    for axis, name in zip(figure.subplots(1, 2), TUMOURS, strict=True):
        axis.plot([row["minutes"] for row in table], [row[name] for row in table], marker="o")
        axis.set(xlabel="minutes of training in focus, two CPU cores", ylabel=name)
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    run_parts("anomaly", __doc__, CHECKPOINT, {"curve": curve})
