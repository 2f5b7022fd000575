"""Each kind of error by itself, in 15 % of the frames of 40 unseen sequences: Dice and distance before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meddiffusers.data.phantoms.cardiac import ERROR_KINDS
from meddiffusers.datasets.cardiac_sequences import HEARTS, heart_sequences
from meddiffusers.evaluation.cardiac.report import temporal_metrics
from meddiffusers.evaluation.cardiac.result import as_segmented, run_temporal
from meddiffusers.evaluation.cardiac.run import broken
from meddiffusers.evaluation.results import Bar
from meddiffusers.hub.load import load

SEQUENCES, RATE = 40, 0.15
FIGURES = (
    "Dice",
    "Hausdorff distance [mm]",
    "EF error [points]",
    "inconsistent sequences",
    "anatomical errors, frames",
)


def kinds(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """The bars, and the metrics of each kind."""
    pipeline: Any = load(checkpoint)
    sequences = list(heart_sequences(HEARTS, "unseen", SEQUENCES))
    bars, table = [], {}
    for kind in ERROR_KINDS:
        segmented = broken(sequences, RATE, seed, [kind])
        before, after = (
            {each.name.removesuffix(f", {kind}"): each.value for each in temporal_metrics(of, kind, "", seed)}
            for of in (as_segmented(pipeline, sequences, segmented), run_temporal(pipeline, sequences, segmented))
        )
        table[kind] = {name: [before[name], after[name]] for name in FIGURES}
        print(kind, table[kind], flush=True)
        bars.append(Bar(f"{kind}: Dice lost", before["Dice"] - after["Dice"], "<=", 0))
        distance = "Hausdorff distance [mm]"
        bars.append(Bar(f"{kind}: distance gained, mm", after[distance] - before[distance], "<=", 0))
    return bars, {"n": SEQUENCES, "before and after": table}
