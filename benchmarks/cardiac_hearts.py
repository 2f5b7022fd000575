"""The repair of hearts that the phantom did not draw: 300 sequences of splines, and half ellipses.

Every group is corrected by all methods: the VAE's reconstruction, Gaussian smoothing of its latents, the method of
Painchaud et al. ("smooth"), and "repair". The folders `results/cardiac_hearts/` and `results/cardiac_ellipses/` hold
the metrics for the card.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from ellipse_heart import EllipseHeart
from spline_heart import SplineHeart, sample_spline_heart, spoil

from meddiffusers.datasets.cardiac_sequences import CardiacSequence
from meddiffusers.evaluation.cardiac.report import NAMES, sequence_values
from meddiffusers.evaluation.cardiac.result import CorrectedSequence
from meddiffusers.evaluation.cardiac.run import INPUT, OURS, run_methods
from meddiffusers.evaluation.metrics.bootstrap import OVER_SUBJECTS, bootstrap_mean_interval
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Bar, Metric, metric_key, run_facts
from meddiffusers.hub.load import load
from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipeline

FIELD, FRAMES, SPACINGS = 180.0, (12, 32), (1.0, 2.0)  # mm of the image; of a whole cycle; mm of a pixel
JITTERS, RATES, SIZE = (0.4, 0.8, 1.2), (0.0, 0.15), 20
RESULTS = Path("benchmarks", "results")
KEYS = ("dice", "hausdorff_distance", "ef_error", "inconsistent_sequences", "invalid_frames")
SHOWN = ("dice", "hausdorff_distance", "ef_error")  # on the card
OTHERS = ("Gaussian", "smooth")


class Group(NamedTuple):
    """Sequences of one kind: of how many hearts, with which values, jitter in mm, and share of spoilt frames."""

    count: int
    jitter: float = 0.8
    rate: float = 0.1
    half: bool = False
    ranges: dict[str, tuple[float, float]] = {}


GROUPS = {
    "clean": Group(45, 0, 0),
    "clean, half cycle": Group(15, 0, 0, True),
    **{f"jitter {j} mm, {r:.0%} spoilt": Group(SIZE, j, r) for j in JITTERS for r in RATES},
    "dilated": Group(24, ranges={"width": (60, 72), "wall": (5, 8), "ejection_fraction": (0.1, 0.3)}),
    "hypertrophied": Group(24, ranges={"width": (28, 40), "wall": (14, 18), "ejection_fraction": (0.6, 0.75)}),
    "tilted": Group(24, ranges={"tilt": (35, 60)}),
    "off-centre": Group(24, ranges={"x": (15, 30), "y": (-15, 15)}),
    "half cycle": Group(24, half=True),
}
ELLIPSES = {
    "clean, 48 mm wide": (EllipseHeart(48, 9), {"frames": 40}),
    "clean, 42 mm wide": (EllipseHeart(42, 11), {"frames": 23}),
    "clean, 48 mm wide, half cycle": (EllipseHeart(48, 9), {"frames": 14, "half_cycle": True}),
    "jitter .8 mm": (EllipseHeart(48, 9), {"frames": 20, "jitter": 0.8}),
    "tilt 45°, jitter 1.2 mm": (EllipseHeart(48, 9, tilt=45), {"frames": 40, "jitter": 1.2}),
    "clean, dilated": (EllipseHeart(62, 7, ejection_fraction=0.25), {"frames": 16}),
}


def hearts(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """300 sequences of the second generator, in groups."""
    bars, table, metrics = [], {}, []
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        results = list(pool.map(partial(_group_values, checkpoint, seed), GROUPS))
    for (name, group), values in zip(GROUPS.items(), results, strict=True):
        table[name] = _summary(values)
        metrics += _metrics(f"splines, {name}", values, seed)
        bars += _bars_of_clean(name, values) if group.jitter == 0 else _bars(name, values)
    Report(metrics, run_facts(seed)).save(RESULTS / "cardiac_hearts")
    return bars, {"n": sum(group.count for group in GROUPS.values()), "mean, and worst change, of methods": table}


def ellipses(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """Single sequences of half ellipses, which an earlier version of the pipeline made worse."""
    pipeline = cast(TemporalConsistencyPipeline, load(checkpoint))
    bars, table, metrics = [], {}, []
    for name, (heart, options) in ELLIPSES.items():
        truth = heart.labels(**{**options, "jitter": 0.0})
        sequence = CardiacSequence(truth, (1.0, 1.0), name, "4CH", not options.get("half_cycle", False))
        values = _values(pipeline, [(sequence, heart.labels(**options, seed=seed))])
        table[name] = _summary(values)
        print(name, table[name], flush=True)
        metrics += _metrics(f"half ellipse, {name}", values, seed)
        bars += _bars(name, values) if "jitter" in options else _bars_of_clean(name, values)
    Report(metrics, run_facts(seed)).save(RESULTS / "cardiac_ellipses")
    return bars, {"n": len(ELLIPSES), "mean, and worst change, of methods": table}


def _group_values(checkpoint: Path, seed: int, name: str) -> dict[str, dict[str, np.ndarray]]:
    torch.set_num_threads(1)
    pipeline = cast(TemporalConsistencyPipeline, load(checkpoint))
    first = 1000 * list(GROUPS).index(name)
    values = _values(pipeline, [_spline_sequence(GROUPS[name], seed, first + i) for i in range(GROUPS[name].count)])
    print(name, _summary(values), flush=True)
    return values


def _spline_sequence(group: Group, seed: int, index: int) -> tuple[CardiacSequence, np.ndarray]:
    """Ground truth and segmentation."""
    rng = np.random.default_rng([seed, index])
    given = {name: float(rng.uniform(*of)) for name, of in group.ranges.items()}
    if "tilt" in given:
        given["tilt"] *= rng.choice([-1, 1])
    centre = given.pop("x", rng.normal(0, 4)), given.pop("y", rng.normal(0, 4))
    heart: SplineHeart = sample_spline_heart(1_000_000 + index, centre=centre, **given)
    spacing, frames = float(np.exp(rng.uniform(*np.log(SPACINGS)))), int(rng.integers(*FRAMES, endpoint=True))
    phases = np.linspace(0, heart.end_systole, max(8, frames // 2)) if group.half else np.linspace(0, 1, frames)
    shape = (int(FIELD / spacing),) * 2
    truth = heart.labels(phases, shape, spacing)
    segmented = heart.labels(phases, shape, spacing, group.jitter)
    for t in np.flatnonzero(rng.random(len(phases)) < group.rate):
        segmented[t] = spoil(segmented[t], spacing, rng)
    return CardiacSequence(truth, (spacing, spacing), str(index), "4CH", not group.half), segmented


def _values(
    pipeline: TemporalConsistencyPipeline, pairs: list[tuple[CardiacSequence, np.ndarray]]
) -> dict[str, dict[str, np.ndarray]]:
    """Values of each sequence, by method and metric; and for method "repair" whether it was returned unchanged."""
    sequences, segmented = (list(each) for each in zip(*pairs, strict=True))
    results: dict[str, list[CorrectedSequence]] = run_methods(pipeline, sequences, segmented)
    values = {method: sequence_values(of) for method, of in results.items()}
    same = [np.array_equal(each.labels, frames) for each, frames in zip(results[OURS], segmented, strict=True)]
    values[OURS]["unchanged"] = np.array(same, float)
    return values


def _summary(values: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    means = {method: {key: float(np.nanmean(of[key])) for key in KEYS} for method, of in values.items()}
    ours, before = values[OURS], values[INPUT]
    worst = {
        "largest decrease of Dice": float((before["dice"] - ours["dice"]).max()),
        "largest increase of the EF error": float(np.nanmax(ours["ef_error"] - before["ef_error"])),
        "returned unchanged": float(ours["unchanged"].mean()),
    }
    return {**means, **worst}


def _metrics(dataset: str, values: dict[str, dict[str, np.ndarray]], seed: int) -> list[Metric]:
    """Means of "repair", with those of the other methods in the note."""
    metrics = []
    for key in SHOWN:
        each = values[OURS][key]
        others = ", ".join(f"{method} {np.nanmean(values[method][key]):.3g}" for method in (INPUT, *OTHERS))
        low, high = bootstrap_mean_interval(each, list(map(str, range(len(each)))), seed)
        name = f"{NAMES[key]}, {dataset}"
        mean = float(np.nanmean(each))
        metrics.append(
            Metric(metric_key(key, dataset), name, key, mean, dataset, len(each), low, high, OVER_SUBJECTS, others)
        )
    return metrics


def _bars_of_clean(name: str, values: dict[str, dict[str, np.ndarray]]) -> list[Bar]:
    ours = values[OURS]
    return [
        Bar(f"{name}: returned unchanged", float(ours["unchanged"].mean()), ">=", 0.98),
        Bar(f"{name}: largest decrease of Dice", float(1 - ours["dice"].min()), "<=", 0.001),
        Bar(f"{name}: largest change of EF, points", float(np.nanmax(ours["ef_error"])), "<=", 0.5),
    ]


def _bars(name: str, values: dict[str, dict[str, np.ndarray]]) -> list[Bar]:
    mean: Callable[[str, str], float] = lambda method, key: float(np.nanmean(values[method][key]))  # noqa: E731
    loss = float((values[INPUT]["dice"] - values[OURS]["dice"]).max())
    bars = [
        Bar(f"{name}: inconsistent sequences", mean(OURS, "inconsistent_sequences"), "<=", 0.05),
        Bar(f"{name}: largest decrease of Dice", loss, "<=", 0.01),
    ]
    for other in (INPUT, *OTHERS):
        bars += [
            Bar(f"{name}: Dice minus that of {other}", mean(OURS, "dice") - mean(other, "dice"), ">=", 0),
            Bar(
                f"{name}: Hausdorff distance minus that of {other}, mm",
                mean(OURS, "hausdorff_distance") - mean(other, "hausdorff_distance"),
                "<=",
                0,
            ),
            Bar(
                f"{name}: EF error minus that of {other}, points",
                mean(OURS, "ef_error") - mean(other, "ef_error"),
                "<=",
                0,
            ),
        ]
    return bars
