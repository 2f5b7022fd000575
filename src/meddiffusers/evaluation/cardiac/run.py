"""Evaluation of the temporal consistency pipeline: ground truth with injected errors, corrected by several methods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from meddiffusers.data.phantoms.cardiac import corrupt_sequence
from meddiffusers.datasets.cardiac_sequences import CARDIAC_PHANTOM, CardiacSequence, load_cardiac_sequences
from meddiffusers.evaluation.cardiac.baselines import run_gaussian, run_reconstruction
from meddiffusers.evaluation.cardiac.figures import save_film
from meddiffusers.evaluation.cardiac.report import evaluate_temporal
from meddiffusers.evaluation.cardiac.result import CorrectedSequence, measure_segmentations, run_temporal
from meddiffusers.evaluation.report import Report
from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipeline
from meddiffusers.utils.seeds import sample_seed

INPUT, OURS = "as segmented", "repair"


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
    return {
        INPUT: measure_segmentations(pipeline, sequences, segmented),
        "reconstructed": run_reconstruction(pipeline, sequences, segmented),
        "Gaussian": run_gaussian(pipeline, sequences, segmented),
        "smooth": run_temporal(pipeline, sequences, segmented, method="smooth"),
        OURS: run_temporal(pipeline, sequences, segmented),
    }


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
    dataset = f"{'phantom' if name == CARDIAC_PHANTOM else 'CAMUS'}, {rate:.0%} of frames corrupted"
    report = evaluate_temporal(results, dataset=dataset, seed=seed)
    report.save(folder)
    first = results[INPUT][0]
    rows = {"ground truth": first.reference, INPUT: first.labels, OURS: results[OURS][0].labels}
    save_film(rows, folder / "film.gif")
    return report
