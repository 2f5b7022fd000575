"""Metrics of cardiac sequences with known values: unchanged, shifted, with a hole, without contraction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meddiffusers.datasets.cardiac_sequences import CardiacSequence, load_cardiac_sequences
from meddiffusers.evaluation.cardiac.figures import attribute_curves, frames_panel, save_film
from meddiffusers.evaluation.cardiac.report import evaluate_temporal, temporal_metrics
from meddiffusers.evaluation.cardiac.result import measure_segmentations, run_temporal
from meddiffusers.hub.load import load

CHECKPOINT = Path(__file__).parents[3] / "examples" / "checkpoints" / "ar-vae-cardiac"


@pytest.fixture(scope="module")
def pipe() -> Any:
    return load(CHECKPOINT)


@pytest.fixture(scope="module")
def sequences() -> list[CardiacSequence]:
    return list(load_cardiac_sequences("cardiac_phantom", "unseen", 2, frames=13))


def metric_values(pipe: Any, sequences: list[CardiacSequence], segmented: list[np.ndarray]) -> dict[str, float]:
    metrics = temporal_metrics(measure_segmentations(pipe, sequences, segmented), "x", "phantom")
    return {each.key.removesuffix("_x"): each.value for each in metrics}


@pytest.mark.slow
def test_the_ground_truth_has_no_error(pipe: Any, sequences: list[CardiacSequence]) -> None:
    values = metric_values(pipe, sequences, [each.labels for each in sequences])
    assert values["dice"] == 1 and values["hausdorff_distance"] == 0
    assert values["ef_error"] == values["invalid_frames"] == values["regenerated_frames"] == 0


@pytest.mark.slow
def test_a_shift_of_two_pixels_is_a_distance_of_two_and_a_half_mm(pipe: Any, sequences: list[CardiacSequence]) -> None:
    values = metric_values(pipe, sequences, [np.roll(each.labels, 2, axis=2) for each in sequences])
    assert values["hausdorff_distance"] == pytest.approx(2.5, abs=0.3)
    assert 0.8 < values["dice"] < 0.97 and values["ef_error"] < 1e-6


@pytest.mark.slow
def test_an_error_in_one_frame_counts_once(pipe: Any, sequences: list[CardiacSequence]) -> None:
    corrupted = [each.labels.copy() for each in sequences]
    middle = np.argwhere(corrupted[0][4] == 1).mean(axis=0).astype(int)
    corrupted[0][4, middle[0] - 1 : middle[0] + 2, middle[1] - 1 : middle[1] + 2] = 0
    values = metric_values(pipe, sequences, corrupted)
    assert values["invalid_frames"] == pytest.approx(1 / 26)
    corrupted[0][4] = 0
    values = metric_values(pipe, sequences, corrupted)
    assert values["inconsistent_sequences"] >= 0.5
    diagonal = 128 * 1.25 * np.sqrt(2)
    assert values["hausdorff_distance"] == pytest.approx(diagonal / 26, rel=1e-3)
    assert values["dice"] == pytest.approx(25 / 26)


@pytest.mark.slow
def test_the_bias_is_signed(pipe: Any, sequences: list[CardiacSequence]) -> None:
    """Sequences that stay in end diastole eject nothing."""
    still = [np.repeat(each.labels[:1], 13, axis=0) for each in sequences]
    values = metric_values(pipe, sequences, still)
    assert values["ef_bias"] == -values["ef_error"] < -20


@pytest.mark.slow
def test_the_report_has_every_method_and_its_figures(
    pipe: Any, sequences: list[CardiacSequence], tmp_path: Path
) -> None:
    corrupted = [
        np.where(np.arange(13)[:, None, None] == 6, np.roll(each.labels, 8, axis=1), each.labels) for each in sequences
    ]
    results = {"in": measure_segmentations(pipe, sequences, corrupted), "out": run_temporal(pipe, sequences, corrupted)}
    report = evaluate_temporal(results, dataset="phantom")
    assert report.value("dice_out") > report.value("dice_in") and report.details == {"sequences": 2, "frames": 26}
    assert report.value("regenerated_frames_out") == pytest.approx(1 / 13)
    assert (report.save(tmp_path).parent / "figures" / "1.png").is_file()


@pytest.mark.slow
def test_figures_of_a_sequence(sequences: list[CardiacSequence], tmp_path: Path) -> None:
    labels = sequences[0].labels
    regenerated = np.arange(13) == 3
    assert frames_panel({"a": labels, "b": labels}, regenerated).width > 400
    assert attribute_curves({"a": np.ones((13, 7)), "b": np.full((13, 7), np.nan)}).width > 400
    save_film({"a": labels, "b": labels}, tmp_path / "film.gif")
    assert [path.name for path in tmp_path.iterdir()] == ["film.gif"]
