"""Dice, energy distance and seconds per slice by number of steps, for three schedulers, and for a U-Net.

The mask of a model with an image encoder does not depend on the steps, but its samples do. Each sample has a Dice, and
so has their majority vote, which is the mask of Wolleb et al. 2022.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from segmentation_quality import test_config
from supervised_unet import run_supervised, trained_baseline

from meddiffusers.datasets.labelled_config import load_test_split
from meddiffusers.evaluation.metrics.overlap import overlap
from meddiffusers.evaluation.results import Bar
from meddiffusers.evaluation.segmentation.result import SegmentationResult
from meddiffusers.evaluation.segmentation.run import run_segmentation
from meddiffusers.evaluation.segmentation.scores import score
from meddiffusers.hub.load import load

STEPS = (1, 2, 5, 10, 20, 50, 250, 1000)
SCHEDULERS = {"DDPM": DDPMScheduler, "DDIM": DDIMScheduler, "DPM-Solver++": DPMSolverMultistepScheduler}
SLICES, MEMBERS = 24, 5
FEWER = {250: 8, 1000: 4}  # slices; all of them for the 250 steps of DDIM, which a bar is about


def steps(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """The bars of few steps, and the table. Rows of fewer slices are compared with 10 steps on the same slices.

    Those slices are spread over the sizes of the tumours.
    """
    pipeline: Any = load(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    rows = load_test_split(test_config(pipeline))
    area = np.array([np.count_nonzero(mask) for mask in rows.with_format("numpy")["reference"]])
    with_tumour = np.flatnonzero(area)[:SLICES]
    by_size = np.argsort(area[with_tumour], kind="stable")
    settings, table, results, shown = pipeline.scheduler.config, [], {}, {}
    for name, kind in SCHEDULERS.items():
        pipeline.scheduler = kind.from_config(settings)
        for count in STEPS:
            number = SLICES if (name, count) == ("DDIM", 250) else FEWER.get(count, SLICES)
            places = _spread(by_size, number)
            began = time.perf_counter()
            results[name, count] = run_segmentation(
                pipeline, rows.select(with_tumour[places]), num_inference_steps=count, ensemble_size=MEMBERS, seed=seed
            )
            table.append({"scheduler": name, "steps": count} | _measure(results[name, count], began))
            shown[name, count] = places
            print(table[-1], flush=True)
    few = results["DDIM", 10]
    unet = trained_baseline()[0]
    began = time.perf_counter()
    supervised = run_supervised(unet, rows.select(with_tumour), few, samples=MEMBERS, seed=seed)
    dice = _dice(_majority(few), few)
    for row, places in zip(table, shown.values(), strict=True):
        row["Dice of DDIM, 10 steps, same slices"] = round(float(np.mean(dice[places])), 4)
    table.append({"scheduler": "none: supervised U-Net", "steps": 1} | _measure(supervised, began))
    rows_by_setting = {(row["scheduler"], row["steps"]): row for row in table}
    bars = [
        Bar(f"steps: {name} lost by DDIM with 10 instead of 250", _lost(rows_by_setting, name), "<=", 0.005)
        for name in ("Dice", "Dice of a member")
    ]
    return bars, {"n": len(set(few.subjects)), "table": table}


def _measure(result: SegmentationResult, began: float) -> dict[str, float]:
    """Metrics of the samples and of their majority vote, and seconds per slice since `began`."""
    count = len(result.mask)
    seconds = (time.perf_counter() - began) / count
    measured = {
        "Dice": np.mean(_dice(_majority(result), result)),
        "Dice of a member": np.mean([_dice(result.samples[:, number], result) for number in range(MEMBERS)]),
        "GED": np.mean(score(result).energy.samples),
        "seconds": seconds,
    }
    return {"slices": count} | {title: round(float(value), 4) for title, value in measured.items()}


def _majority(result: SegmentationResult) -> np.ndarray:
    return (result.samples > 0).mean(axis=1) > 0.5


def _spread(by_size: np.ndarray, number: int) -> np.ndarray:
    """Indices of `number` slices spread over the sizes, given the indices by size."""
    between = np.linspace(0, len(by_size) - 1, number + 2)[1:-1].astype(int)
    return np.arange(number) if number == len(by_size) else np.sort(by_size[between])


def _lost(rows_by_setting: dict[tuple[str, int], dict[str, Any]], name: str) -> float:
    return rows_by_setting["DDIM", 250][name] - rows_by_setting["DDIM", 10][name]


def _dice(mask: np.ndarray, result: SegmentationResult) -> np.ndarray:
    """(N,) of the whole tumour."""
    return overlap(mask > 0, result.reference > 0, (1,), result.spacing).dice[:, 0]
