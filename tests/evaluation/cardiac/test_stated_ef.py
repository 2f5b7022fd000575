"""Ejection fractions against those that a data set states, and the published table beside measured ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meddiffusers.datasets.cardiac_sequences import CardiacSequence, load_cardiac_sequences
from meddiffusers.evaluation.cardiac.published import comparison_rows
from meddiffusers.evaluation.cardiac.report import temporal_metrics
from meddiffusers.evaluation.cardiac.result import measure_segmentations
from meddiffusers.evaluation.cardiac.stated_ef import stated_ef_metrics
from meddiffusers.evaluation.report import Report
from meddiffusers.hub.load import load

CHECKPOINT = Path(__file__).parents[3] / "examples" / "checkpoints" / "ar-vae-cardiac"


@pytest.fixture(scope="module")
def pipe() -> Any:
    return load(CHECKPOINT)


@pytest.fixture(scope="module")
def sequences() -> list[CardiacSequence]:
    return list(load_cardiac_sequences("cardiac_phantom", "unseen", 4, frames=9))


@pytest.mark.slow
def test_phantoms_state_their_ejection_fraction(pipe: Any, sequences: list[CardiacSequence]) -> None:
    still = [np.repeat(each.labels[:1], 9, axis=0) for each in sequences]
    results = {
        "truth": measure_segmentations(pipe, sequences, [each.labels for each in sequences]),
        "still": measure_segmentations(pipe, sequences, still),
    }
    truth, nothing = stated_ef_metrics(results, sequences, "phantom")
    assert truth.key == "stated_ef_error_truth" and truth.n == nothing.n == 2
    assert truth.value < 4 and truth.low <= truth.value <= truth.high
    stated = np.mean([100 * each.ejection_fraction for each in sequences if each.ejection_fraction is not None])
    assert nothing.value == pytest.approx(stated)
    unknown = [replace(each, ejection_fraction=None) for each in sequences]
    assert stated_ef_metrics(results, unknown, "phantom") == []
    assert [each.n for each in stated_ef_metrics({"truth": results["truth"][:3]}, sequences[:3], "phantom")] == [1]


@pytest.mark.slow
def test_published_results_stand_beside_measured_ones(pipe: Any, sequences: list[CardiacSequence]) -> None:
    measured = measure_segmentations(pipe, sequences, [each.labels for each in sequences])
    metrics = [metric for method in ("in", "out") for metric in temporal_metrics(measured, method, "phantom")]
    title, own, *published = comparison_rows(Report(metrics, {}), "in", ["out"])
    assert own[:2] == ("measured: out", "4") and own[title.index("Dice")] == "1 → 1"
    clas = dict(zip(title, published[0], strict=True))
    assert (clas[""], clas["sequences"], clas["Dice"], clas["EF error [points]"]) == (
        "published: CLAS",
        "98",
        "0.953 → 0.952",
        "4.2 → 4",
    )
    assert [row[0] for row in published] == ["published: CLAS", "published: DeepLabv3", "published: U-Net"]
