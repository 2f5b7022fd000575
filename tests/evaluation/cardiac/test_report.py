"""Metrics of repaired sequences where they are known: nothing changed, a shift, a hole, a beat that is cut short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meddiffusers.datasets.cardiac_sequences import HeartSequence, heart_sequences
from meddiffusers.evaluation.cardiac.figures import curves, film, frames_panel
from meddiffusers.evaluation.cardiac.report import evaluate_temporal, temporal_metrics
from meddiffusers.evaluation.cardiac.result import as_segmented, run_temporal
from meddiffusers.hub.load import load

CHECKPOINT = Path(__file__).parents[3] / "examples" / "checkpoints" / "ar-vae-cardiac"


@pytest.fixture(scope="module")
def pipe() -> Any:
    return load(CHECKPOINT)


@pytest.fixture(scope="module")
def sequences() -> list[HeartSequence]:
    return list(heart_sequences("hearts", "unseen", 2, frames=13))


def figures(pipe: Any, sequences: list[HeartSequence], segmented: list[np.ndarray]) -> dict[str, float]:
    found = temporal_metrics(as_segmented(pipe, sequences, segmented), "x", "phantom")
    return {each.name.removesuffix(", x"): each.value for each in found}


def test_the_truth_itself_has_no_error(pipe: Any, sequences: list[HeartSequence]) -> None:
    found = figures(pipe, sequences, [each.labels for each in sequences])
    assert found["Dice"] == 1 and found["Hausdorff distance [mm]"] == 0
    assert found["EF error [points]"] == found["anatomical errors, frames"] == found["frames drawn anew"] == 0


def test_a_shift_of_two_pixels_is_a_distance_of_two_and_a_half_mm(pipe: Any, sequences: list[HeartSequence]) -> None:
    found = figures(pipe, sequences, [np.roll(each.labels, 2, axis=2) for each in sequences])
    assert found["Hausdorff distance [mm]"] == pytest.approx(2.5, abs=0.3)
    assert 0.8 < found["Dice"] < 0.97 and found["EF error [points]"] < 1e-6


def test_what_is_wrong_in_one_frame_counts_once(pipe: Any, sequences: list[HeartSequence]) -> None:
    broken = [each.labels.copy() for each in sequences]
    middle = np.argwhere(broken[0][4] == 1).mean(axis=0).astype(int)
    broken[0][4, middle[0] - 1 : middle[0] + 2, middle[1] - 1 : middle[1] + 2] = 0
    found = figures(pipe, sequences, broken)
    assert found["anatomical errors, frames"] == pytest.approx(1 / 26)
    broken[0][4] = 0
    found = figures(pipe, sequences, broken)
    assert found["inconsistent sequences"] >= 0.5
    diagonal = 128 * 1.25 * np.sqrt(2)
    assert found["Hausdorff distance [mm]"] == pytest.approx(diagonal / 26, rel=1e-3)
    assert found["Dice"] == pytest.approx(25 / 26)


def test_bias_has_a_sign(pipe: Any, sequences: list[HeartSequence]) -> None:
    """Beats whose end systole is replaced by end diastole eject nothing."""
    still = [np.repeat(each.labels[:1], 13, axis=0) for each in sequences]
    found = figures(pipe, sequences, still)
    assert found["EF bias [points]"] == -found["EF error [points]"] < -20


def test_the_report_has_every_method_and_its_images(pipe: Any, sequences: list[HeartSequence], tmp_path: Path) -> None:
    broken = [
        np.where(np.arange(13)[:, None, None] == 6, np.roll(each.labels, 8, axis=1), each.labels) for each in sequences
    ]
    results = {"in": as_segmented(pipe, sequences, broken), "out": run_temporal(pipe, sequences, broken)}
    report = evaluate_temporal(results, dataset="phantom")
    assert report.value("Dice, out") > report.value("Dice, in") and report.details == {"sequences": 2, "frames": 26}
    assert report.value("frames drawn anew, out") == pytest.approx(1 / 13)
    assert (report.save(tmp_path).parent / "figures" / "1.png").is_file()


def test_images_of_a_sequence(sequences: list[HeartSequence], tmp_path: Path) -> None:
    labels = sequences[0].labels
    drawn = np.arange(13) == 3
    assert frames_panel({"a": labels, "b": labels}, drawn).width > 400
    assert curves({"a": np.ones((13, 7)), "b": np.full((13, 7), np.nan)}).width > 400
    film({"a": labels, "b": labels}, tmp_path / "film.gif")
    assert [path.name for path in tmp_path.iterdir()] == ["film.gif"]
