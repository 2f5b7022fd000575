"""The shipped AR-VAE on held-out digits.

Measures the checkpoint as `meddiffusers evaluate attributes examples/checkpoints/ar-vae-mnist` does. What it says of
the other seeds of its recipe, and of the time that training took, is read from its `metrics.json`.

    python benchmarks/attributes.py
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from attribute_bars import MINUTES, attribute_bars

from meddiffusers.cli.attributes import evaluate_attribute_model
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Bar, write_results

CHECKPOINT = Path("examples/checkpoints/ar-vae-mnist")


def main() -> None:
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        evaluate_attribute_model(str(CHECKPOINT), output=Path(folder))
        measured = Report.read(Path(folder))
    values = {metric.name: metric.value for metric in measured.metrics}
    trained = Report.read(CHECKPOINT)
    bars = attribute_bars(values, of="shipped")
    if "per_run" in trained.details:
        means = {name: float(np.mean(runs)) for name, runs in trained.details["per_run"].items()}
        bars += attribute_bars(means, of=f"mean of seeds {trained.run['seeds']}")
    bars.append(Bar("shipped: minutes of training", trained.run["training_minutes"], "<=", MINUTES))
    write_results(
        "attributes",
        bars,
        seed=measured.run["seed"],
        n=measured.metrics[0].n,
        duration_s=time.monotonic() - start,
        values=values,
        per_run=trained.details.get("per_run", {}),
    )


if __name__ == "__main__":
    main()
