"""How few steps are enough: Dice, energy distance and seconds a slice against steps, for three schedulers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from segmentation_quality import test_config

from meddiffusers.evaluation.results import Bar
from meddiffusers.evaluation.segmentation_run import run_segmentation
from meddiffusers.evaluation.segmentation_scores import score
from meddiffusers.hub.load import load
from meddiffusers.training.segmentation_data import held_out

STEPS = (1, 2, 5, 10, 20, 50, 250, 1000)
SCHEDULERS = {"DDPM": DDPMScheduler, "DDIM": DDIMScheduler, "DPM-Solver++": DPMSolverMultistepScheduler}
SLICES, FEWER, MEMBERS = 60, 20, 5  # fewer slices above MANY steps for all but DDIM
MANY = 50


def steps(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """The bar of few steps, and the table. Rows of fewer slices are compared with 10 steps on the same slices."""
    pipeline: Any = load(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    rows = held_out(test_config(pipeline))
    with_tumour = np.flatnonzero([mask.any() for mask in rows.with_format("numpy")["reference"]])
    settings = pipeline.scheduler.config
    table = []
    for name, kind in SCHEDULERS.items():
        pipeline.scheduler = kind.from_config(settings)
        for count in STEPS:
            chosen = with_tumour[: FEWER if count > MANY and name != "DDIM" else SLICES]
            began = time.perf_counter()
            result = run_segmentation(
                pipeline, rows.select(chosen), num_inference_steps=count, ensemble_size=MEMBERS, seed=seed
            )
            seconds = (time.perf_counter() - began) / len(chosen)
            scores = score(result)
            dice, energy = np.nanmean(scores.whole.dice), np.nanmean(scores.energy.samples)
            row = {"scheduler": name, "steps": count, "slices": len(chosen)}
            row |= {"Dice": round(float(dice), 4), "GED": round(float(energy), 4), "seconds": round(seconds, 4)}
            print(row, flush=True)
            table.append(row)
    found = {(row["scheduler"], row["steps"]): row["Dice"] for row in table}
    loss = found["DDIM", 250] - found["DDIM", 10]
    return [Bar("steps: Dice lost by DDIM with 10 steps instead of 250", loss, "<=", 0.005)], {"table": table}
