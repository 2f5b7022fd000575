"""Metrics of a detector whose maps are known, against scikit-learn and by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from meddiffusers.evaluation.anomaly.report import anomaly_metrics, evaluate_anomaly
from meddiffusers.evaluation.anomaly.result import AnomalyResult
from meddiffusers.evaluation.results import metric_key
from meddiffusers.evaluation.segmentation.scores import strata

KINDS = ["tumour", "cavity", "none"]


def result_of(contrast: float = 1.0, count: int = 30) -> AnomalyResult:
    """Squares of three sizes on noise, brighter by `contrast` in the map; every third slice is healthy."""
    rng = np.random.default_rng(0)
    reference = np.zeros((count, 24, 24), bool)
    for number in range(count):
        if number % 3 < 2:
            side = (2, 5, 9)[number // 3 % 3]
            reference[number, 8 : 8 + side, 6 : 6 + side] = True
    head = np.zeros_like(reference)
    head[:, 2:22, 2:22] = True
    maps = (rng.normal(0, 0.3, reference.shape) + contrast * reference).astype(np.float32)
    return AnomalyResult(
        maps=maps,
        masks=maps > 0.6,
        scores=np.sort(maps.reshape(count, -1), axis=1)[:, -4:].mean(axis=1),
        reference=reference,
        head=head,
        images=np.full(reference.shape, 0.5, np.float32),
        counterfactuals=np.full(reference.shape, 0.4, np.float32),
        lesions=[KINDS[number % 3] for number in range(count)],
        subjects=[f"subject {number // 6 * 3 + number % 3}" for number in range(count)],
        spacing=(5.0, 5.0),
    )


def metrics_of(result: AnomalyResult) -> dict[str, Any]:
    return {metric.key: metric for metric in anomaly_metrics(result, "squares")}


@cache
def metrics_at(contrast: float = 1.0) -> dict[str, Any]:
    """The metrics of `result_of(contrast)`, computed once: their intervals take a while."""
    return metrics_of(result_of(contrast))


class TestAgainstScikitLearn:
    @pytest.mark.parametrize("kind", ["", "tumour", "cavity"])
    @pytest.mark.slow
    def test_pixels_are_pooled_over_the_head(self, kind: str) -> None:
        result = result_of()
        inside = [number for number, other in enumerate(result.lesions) if other != "none" and kind in ("", other)]
        head = result.head[inside]
        values, truth = result.maps[inside][head], result.reference[inside][head]
        found, suffix = metrics_at(), f"_{kind}" if kind else ""
        assert found[f"auroc_pixels{suffix}"].value == pytest.approx(roc_auc_score(truth, values), abs=2e-4)
        expected = average_precision_score(truth, values)
        assert found[f"average_precision_pixels{suffix}"].value == pytest.approx(expected, abs=2e-3)
        assert found[f"auroc_pixels{suffix}"].n == len(inside)

    def test_the_best_dice_is_that_of_some_threshold(self) -> None:
        result = result_of()
        diseased = result.reference.any(axis=(1, 2))
        values, truth = (of[diseased][result.head[diseased]] for of in (result.maps, result.reference))
        marked = values[:, None] > np.linspace(0, 2, 400)
        dice = 2 * (marked & truth[:, None]).sum(axis=0) / (marked.sum(axis=0) + truth.sum())
        assert metrics_at()["best_dice_pixels"].value == pytest.approx(dice.max(), abs=2e-3)

    @pytest.mark.slow
    def test_slices(self) -> None:
        result = result_of(contrast=0.4)
        expected = roc_auc_score([kind != "none" for kind in result.lesions], result.scores)
        assert 0.5 < expected < 1
        assert metrics_at(0.4)["auroc_slices"].value == pytest.approx(expected, abs=1e-6)

    def test_a_subject_is_a_mean_over_subjects(self) -> None:
        result = result_of(contrast=0.4)
        each = []
        for subject in sorted(set(result.subjects)):
            own = [n for n, other in enumerate(result.subjects) if other == subject and result.area[n] > 0]
            if own:
                head = result.head[own]
                each.append(roc_auc_score(result.reference[own][head], result.maps[own][head]))
        found = metrics_at(0.4)["auroc_subject"]
        assert found.value == pytest.approx(np.mean(each), abs=1e-3) and found.low < found.value < found.high


@pytest.mark.slow
def test_the_mask_is_held_to_the_reference_slice_by_slice() -> None:
    result = result_of()
    dice = [
        2 * (mask & truth).sum() / (mask.sum() + truth.sum())
        for mask, truth in zip(result.masks, result.reference, strict=True)
        if truth.any()
    ]
    assert metrics_at()["dice_mask"].value == pytest.approx(np.mean(dice))


@pytest.mark.slow
def test_a_perfect_map_has_every_metric_at_its_best() -> None:
    result = result_of()
    perfect = replace(
        result,
        maps=result.reference.astype(np.float32),
        masks=result.reference,
        scores=result.reference.any(axis=(1, 2)).astype(np.float32),
    )
    assert {metric.value for metric in metrics_of(perfect).values()} == {1.0}


@pytest.mark.slow
def test_groups_without_slices_are_left_out() -> None:
    result = result_of()
    only = replace(result, lesions=["tumour"] * len(result.lesions))
    assert "auroc_slices" not in metrics_of(only) and "auroc_pixels_cavity" not in metrics_of(only)
    sizes = {metric_key("auroc_pixels", size) for size, inside in strata(only.area).items() if inside.any()}
    assert {"auroc_pixels_tumour"} | sizes <= set(metrics_of(only))


@pytest.mark.slow
def test_the_report_counts_slices_and_plots_them() -> None:
    report = evaluate_anomaly(result_of(), dataset="squares")
    assert report.details["slices with"][""] == 20 and report.details["slices with"]["tumour"] == 10
    [figure] = report.figures.values()
    assert figure.width > figure.height / 2 > 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maps": np.zeros((30, 24, 23))}, r"maps has shape \(30, 24, 23\); expected \(30, 24, 24\)"),
        ({"scores": np.zeros(3)}, "Got 3 scores for 30 slices; expected one for each slice"),
        ({"scores": np.full(30, np.nan)}, "maps or scores hold NaN"),
        ({"reference": np.zeros((30, 24, 24), bool)}, "No slice has an anomaly"),
    ],
)
def test_impossible_results_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(result_of(), **change)
