"""Seconds to smooth the latents of a cardiac cycle, and to correct a whole sequence."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any, cast

import numpy as np
from timing import seconds_of

from meddiffusers.datasets.cardiac_sequences import CARDIAC_PHANTOM, FRAMES, load_cardiac_sequences
from meddiffusers.evaluation.cardiac.run import corrupt_sequences
from meddiffusers.evaluation.results import Bar
from meddiffusers.hub.load import load
from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipeline

SEQUENCES, RATE, ROUNDS = 20, 0.15, 200


def speed(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """Return the bars, which are medians on this machine."""
    pipeline = cast(TemporalConsistencyPipeline, load(checkpoint))
    sequences = list(load_cardiac_sequences(CARDIAC_PHANTOM, "unseen", SEQUENCES))
    segmented = corrupt_sequences(sequences, RATE, seed)
    pairs = list(zip(sequences, segmented, strict=True))
    whole = [seconds_of(lambda pair=pair: pipeline(pair[1], pair[0].spacing, cyclic=True)) for pair in pairs]
    smoother, count = pipeline.smoother, pipeline.vae.config["latent_dim"]
    signals = np.random.default_rng(seed).standard_normal((FRAMES, count)).cumsum(axis=0)
    limits = np.full(count, 0.2)

    def smooth() -> None:
        smoother.smooth(signals, smoother.smallest_weights(signals, limits))

    smoothing = statistics.median(seconds_of(smooth) for _ in range(ROUNDS))
    bars = [
        Bar("speed: ms to smooth 25 frames of 16 dimensions", 1000 * smoothing, "<=", 2),
        Bar("speed: seconds to repair a sequence", statistics.median(whole), "<=", 1),
    ]
    return bars, {"n": SEQUENCES, "slowest, seconds": max(whole), "rounds": ROUNDS}
