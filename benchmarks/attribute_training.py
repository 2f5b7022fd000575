"""Train the configuration of the shipped AR-VAE with three seeds, and compare the seeds.

Each run is kept in runs/ar-vae-mnist-seed{n}. Finished runs are not repeated, interrupted ones continue from their last
checkpoint; --fresh starts all runs again. The last line is the command that writes the shipped repository.

    python benchmarks/attribute_training.py [--fresh]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from attribute_bars import MINUTES, attribute_bars
from parts import exit_with
from rich.console import Console
from rich.table import Table

from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Bar, write_results

SEEDS = (0, 1, 2)
SCRIPT, CONFIG = "training/train_attribute_vae.py", "training/configs/ar_vae_mnist.yaml"
PUBLISH = "meddiffusers card write {} --facts model_cards/ar-vae-mnist.yaml --output examples/checkpoints/ar-vae-mnist"


def train(seed: int, fresh: bool) -> Path:
    """The folder of a finished run."""
    run = Path(f"runs/ar-vae-mnist-seed{seed}")
    if fresh:
        shutil.rmtree(run, ignore_errors=True)
    if not (run / "metrics.json").is_file():
        settings = ["--config", CONFIG, "--seed", str(seed), "--output_dir", str(run)]
        subprocess.run([sys.executable, SCRIPT, *settings, "--resume_from_checkpoint", "latest"], check=True)
    return run


def main() -> None:
    start, console = time.monotonic(), Console(markup=False, highlight=False, soft_wrap=True)
    runs = [train(seed, fresh="--fresh" in sys.argv[1:]) for seed in SEEDS]
    first, *others = [Report.read(run) for run in runs]
    values = first.with_spread(others).details["per_run"]
    minutes = [report.run["training_minutes"] for report in (first, *others)]

    table = Table("metric", *(f"seed {seed}" for seed in SEEDS), "mean", box=None)
    for key, per_seed in {**values, "minutes of training": minutes}.items():
        table.add_row(key, *(f"{value:.4g}" for value in per_seed), f"{np.mean(per_seed):.4g}")
    console.print(table)
    bars = attribute_bars({key: float(np.mean(runs)) for key, runs in values.items()}, source="mean of seeds")
    for seed, took in zip(SEEDS, minutes, strict=True):
        bars.append(Bar(f"seed {seed}: minutes of training", took, "<=", MINUTES))
    write_results(
        "attribute_training",
        bars,
        seed=SEEDS[0],
        n=first.metrics[0].n,
        duration_s=time.monotonic() - start,
        seeds=SEEDS,
        per_run=values,
        minutes=minutes,
    )
    console.print("To write the shipped repository:\n" + PUBLISH.format(" ".join(map(str, runs))))
    exit_with(bars)


if __name__ == "__main__":
    main()
