"""Evaluation of the temporal consistency pipeline: several methods correct segmentations of known ground truth.

The segmentations are the ground truth with injected errors, or those of a user's own network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from meddiffusers.data.phantoms.cardiac import corrupt_sequence
from meddiffusers.datasets.cardiac_sequences import (
    CARDIAC_PHANTOM,
    VARIED_CARDIAC_PHANTOM,
    CardiacSequence,
    load_cardiac_sequences,
)
from meddiffusers.evaluation.cardiac.baselines import run_gaussian, run_reconstruction
from meddiffusers.evaluation.cardiac.figures import save_film
from meddiffusers.evaluation.cardiac.report import evaluate_temporal
from meddiffusers.evaluation.cardiac.result import CorrectedSequence, measure_segmentations, run_temporal
from meddiffusers.evaluation.cardiac.segmentations import SegmentedSequences
from meddiffusers.evaluation.cardiac.stated_ef import stated_ef_metrics
from meddiffusers.evaluation.report import Report
from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipeline
from meddiffusers.utils.seeds import sample_seed

DATASETS = {CARDIAC_PHANTOM: "phantom", VARIED_CARDIAC_PHANTOM: "varied phantom"}
INPUT, OURS = "as segmented", "repair"
METHODS: Mapping[str, Callable[..., list[CorrectedSequence]]] = {  # that correct the input
    "reconstructed": run_reconstruction,
    "Gaussian": run_gaussian,
    "smooth": partial(run_temporal, method="smooth"),
    OURS: run_temporal,
}


def corrupt_sequences(
    sequences: Sequence[CardiacSequence], rate: float, seed: int, kinds: Sequence[str] | None = None
) -> list[np.ndarray]:
    """Inject segmentation errors into ground-truth label maps.

    Args:
        sequences: Ground truth.
        rate: Fraction of frames that get an error.
        seed: Seed of the errors. Those of a sequence depend on the seed and the sequence's index only.
        kinds: Kinds of errors, of `ERROR_KINDS`. Default: all.

    Returns:
        Label maps `(T, H, W)` for each sequence.
    """
    return [
        corrupt_sequence(sequence.labels, sequence.spacing[0], sample_seed(seed, i), rate, kinds)[0]
        for i, sequence in enumerate(sequences)
    ]


def run_methods(
    pipeline: TemporalConsistencyPipeline, sequences: Sequence[CardiacSequence], segmented: Sequence[np.ndarray]
) -> dict[str, list[CorrectedSequence]]:
    """Correct segmentations by all methods: none, the paper's baselines, its method, and "repair"."""
    corrected = {name: run(pipeline, sequences, segmented) for name, run in METHODS.items()}
    return {INPUT: measure_segmentations(pipeline, sequences, segmented), **corrected}


def evaluate_repair(
    pipeline: TemporalConsistencyPipeline,
    name: str,
    split: str,
    count: int | None,
    rate: float,
    seed: int,
    folder: Path,
) -> Report:
    """Evaluate all methods of `run_methods` on sequences with injected errors.

    Args:
        pipeline: The pipeline.
        name: "cardiac_phantom" or a CAMUS folder.
        split: Split of the data.
        count: Number of sequences.
        rate: Fraction of frames that get an error.
        seed: Seed of the errors and of the bootstrap.
        folder: Folder for the report and an animation, `film.gif`.
    """
    sequences = list(load_cardiac_sequences(name, split, count))
    results = run_methods(pipeline, sequences, corrupt_sequences(sequences, rate, seed))
    dataset = f"{'CAMUS' if Path(name).is_dir() else DATASETS[name]}, {rate:.0%} of frames corrupted"
    return _saved(evaluate_temporal(results, dataset=dataset, seed=seed), results, folder)


def evaluate_segmentations(
    pipeline: TemporalConsistencyPipeline, data: SegmentedSequences, split: str, seed: int, folder: Path
) -> Report:
    """Evaluate all methods of `run_methods` on segmentations of CAMUS, also by the ejection fractions that it states.

    Args:
        pipeline: The pipeline.
        data: Ground truth and segmentations.
        split: Name of the split, for the metrics.
        seed: Seed of the bootstrap.
        folder: Folder for the report and an animation, `film.gif`.
    """
    results = run_methods(pipeline, data.sequences, data.segmented)
    dataset = f"CAMUS, {split}, own segmentations"
    report = evaluate_temporal(results, dataset=dataset, seed=seed)
    stated = stated_ef_metrics(results, data.sequences, dataset, seed)
    return _saved(replace(report, metrics=[*report.metrics, *stated]), results, folder)


def _saved(report: Report, results: Mapping[str, Sequence[CorrectedSequence]], folder: Path) -> Report:
    """The report, which is written to the folder with an animation of its first sequence."""
    report.save(folder)
    first = results[INPUT][0]
    rows = {"ground truth": first.reference, INPUT: first.labels, OURS: results[OURS][0].labels}
    save_film(rows, folder / "film.gif")
    return report
