"""Errors put into true label maps of hearts, and what each way of repair makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from meddiffusers.data.phantoms.cardiac import corrupted
from meddiffusers.datasets.cardiac_sequences import HEARTS, HeartSequence, heart_sequences
from meddiffusers.evaluation.cardiac.baselines import run_gaussian, run_reconstruction
from meddiffusers.evaluation.cardiac.figures import film
from meddiffusers.evaluation.cardiac.report import evaluate_temporal
from meddiffusers.evaluation.cardiac.result import RepairedSequence, as_segmented, run_temporal
from meddiffusers.evaluation.report import Report
from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipeline
from meddiffusers.utils.seeds import sample_seed

INPUT, OURS = "as segmented", "repair"


def broken(
    sequences: Sequence[HeartSequence], rate: float, seed: int, kinds: Sequence[str] | None = None
) -> list[np.ndarray]:
    """Label maps of each sequence with errors put in, which depend on (seed, its number) alone."""
    return [
        corrupted(sequence.labels, sequence.spacing[0], sample_seed(seed, number), rate, kinds)[0]
        for number, sequence in enumerate(sequences)
    ]


def run_methods(
    pipeline: TemporalConsistencyPipeline, sequences: Sequence[HeartSequence], segmented: Sequence[np.ndarray]
) -> dict[str, list[RepairedSequence]]:
    """The segmentations by what was done to them: nothing, the paper's baselines, its method, ours."""
    return {
        INPUT: as_segmented(pipeline, sequences, segmented),
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
    """The report of `run_methods` on a split of `heart_sequences`, saved into the folder with a film beside it."""
    sequences = list(heart_sequences(name, split, count))
    results = run_methods(pipeline, sequences, broken(sequences, rate, seed))
    dataset = f"{'phantom' if name == HEARTS else 'CAMUS'}, {rate:.0%} of frames spoilt"
    report = evaluate_temporal(results, dataset=dataset, seed=seed)
    report.save(folder)
    first = results[INPUT][0]
    film({"truth": first.reference, INPUT: first.labels, OURS: results[OURS][0].labels}, folder / "film.gif")
    return report
