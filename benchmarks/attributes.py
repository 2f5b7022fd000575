"""The shipped AR-VAE on held-out digits.

Evaluates the checkpoint like `meddiffusers evaluate attributes examples/checkpoints/ar-vae-mnist`. The metrics of the
other seeds of its configuration, and the training time, are read from its `metrics.json`.

    python benchmarks/attributes.py
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from attribute_bars import MINUTES, attribute_bars
from parts import exit_with

from meddiffusers.cli.attributes import evaluate_attribute_model
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Bar, write_results

CHECKPOINT = Path("examples/checkpoints/ar-vae-mnist")


def main() -> None:
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        evaluate_attribute_model(str(CHECKPOINT), output=Path(folder))
        measured = Report.read(Path(folder))
    values = measured.values
    trained = Report.read(CHECKPOINT)
    bars = attribute_bars(values, source="shipped")
    if "per_run" in trained.details:
        means = {key: float(np.mean(runs)) for key, runs in trained.details["per_run"].items()}
        bars += attribute_bars(means, source=f"mean of seeds {trained.run['seeds']}")
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
    exit_with(bars)


if __name__ == "__main__":
    main()
