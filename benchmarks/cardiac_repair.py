"""100 unseen sequences with injected errors, corrected by method "repair", by the paper's method and by baselines.

Painchaud et al. have segmentation networks that leave 68 to 98 of 98 sequences inconsistent. Errors in 5 % of the
frames do so to about 70 of 100 sequences, errors in 15 % to nearly all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from meddiffusers.datasets.cardiac_sequences import CARDIAC_PHANTOM, load_cardiac_sequences
from meddiffusers.evaluation.cardiac.report import temporal_metrics
from meddiffusers.evaluation.cardiac.result import run_temporal
from meddiffusers.evaluation.cardiac.run import INPUT, OURS, corrupt_sequences, run_methods
from meddiffusers.evaluation.results import Bar, Metric, metric_key
from meddiffusers.hub.load import load
from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipeline

SEQUENCES = 100


def clean(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """Sequences without errors, which must stay unchanged."""
    return _repair(checkpoint, seed, 0.0)


def rare(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """As many errors as the best of the paper's networks makes."""
    return _repair(checkpoint, seed, 0.05)


def frequent(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """As many errors as the paper's other networks make."""
    return _repair(checkpoint, seed, 0.15)


def _repair(checkpoint: Path, seed: int, rate: float) -> tuple[list[Bar], dict[str, Any]]:
    pipeline = cast(TemporalConsistencyPipeline, load(checkpoint))
    sequences = list(load_cardiac_sequences(CARDIAC_PHANTOM, "unseen", SEQUENCES))
    segmented = corrupt_sequences(sequences, rate, seed)
    attributes_only = run_temporal(pipeline, sequences, segmented, method="smooth", attributes_only=True)
    results = run_methods(pipeline, sequences, segmented) | {"smooth, attributes only": attributes_only}
    dataset = f"phantom, unseen, {rate:.0%} of frames corrupted"
    metrics = [each for name, of in results.items() for each in temporal_metrics(of, name, dataset, seed)]
    values = {each.key: [each.value, each.low, each.high] for each in metrics}
    return _bars({each.key: each for each in metrics}, rate), {"n": SEQUENCES, "metrics": values}


def _bars(metrics: dict[str, Metric], rate: float) -> list[Bar]:
    def value(key: str, method: str = OURS) -> float:
        return metrics[metric_key(key, method)].value

    at = f"at {rate:.0%}: "
    margins = (0.001, 0.05, 0.5) if rate == 0 else (0.0, 0.0, 0.0)  # sequences without errors cannot improve
    distance = value("hausdorff_distance") - value("hausdorff_distance", INPUT)
    error = value("ef_error")
    bars = [
        Bar(f"{at}inconsistent sequences of {SEQUENCES}", value("inconsistent_sequences") * SEQUENCES, "<=", 1),
        Bar(f"{at}fraction of invalid frames", value("invalid_frames"), "<=", 0),
        Bar(f"{at}decrease of Dice", value("dice", INPUT) - value("dice"), "<=", margins[0]),
        Bar(f"{at}increase of the Hausdorff distance, mm", distance, "<=", margins[1]),
        Bar(f"{at}EF error minus that of the input, points", error - value("ef_error", INPUT), "<=", margins[2]),
    ]
    for other in ("Gaussian", "smooth"):
        bars.append(Bar(f"{at}EF error minus that of {other}, points", error - value("ef_error", other), "<=", 0))
    return bars
