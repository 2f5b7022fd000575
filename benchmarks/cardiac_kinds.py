"""Each kind of error by itself, in 15 % of the frames of 40 unseen sequences: Dice and distance before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from meddiffusers.data.phantoms.cardiac import ERROR_KINDS
from meddiffusers.datasets.cardiac_sequences import CARDIAC_PHANTOM, load_cardiac_sequences
from meddiffusers.evaluation.cardiac.report import temporal_metrics
from meddiffusers.evaluation.cardiac.result import measure_segmentations, run_temporal
from meddiffusers.evaluation.cardiac.run import corrupt_sequences
from meddiffusers.evaluation.results import Bar
from meddiffusers.hub.load import load
from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipeline

SEQUENCES, RATE = 40, 0.15
REPORTED = ("dice", "hausdorff_distance", "ef_error", "inconsistent_sequences", "invalid_frames")


def kinds(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """Return the bars, and the metrics for each kind of error."""
    pipeline = cast(TemporalConsistencyPipeline, load(checkpoint))
    sequences = list(load_cardiac_sequences(CARDIAC_PHANTOM, "unseen", SEQUENCES))
    bars, table = [], {}
    for kind in ERROR_KINDS:
        segmented = corrupt_sequences(sequences, RATE, seed, [kind])
        before, after = (
            {each.type: each.value for each in temporal_metrics(results, kind, "", seed)}
            for results in (
                measure_segmentations(pipeline, sequences, segmented),
                run_temporal(pipeline, sequences, segmented),
            )
        )
        table[kind] = {key: [before[key], after[key]] for key in REPORTED}
        print(kind, table[kind], flush=True)
        bars.append(Bar(f"{kind}: decrease of Dice", before["dice"] - after["dice"], "<=", 0))
        increase = after["hausdorff_distance"] - before["hausdorff_distance"]
        bars.append(Bar(f"{kind}: increase of the Hausdorff distance, mm", increase, "<=", 0))
    return bars, {"n": SEQUENCES, "before and after": table}
