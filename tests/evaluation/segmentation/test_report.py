from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from meddiffusers.evaluation.metrics.bootstrap import bootstrap_mean_interval
from meddiffusers.evaluation.metrics.energy_distance import energy_distance
from meddiffusers.evaluation.metrics.overlap import overlap
from meddiffusers.evaluation.metrics.uncertainty import error_uncertainty_auroc
from meddiffusers.evaluation.results import Metric, metric_key
from meddiffusers.evaluation.segmentation.figures import select_slices, slices_figure
from meddiffusers.evaluation.segmentation.report import SegmentationResult, evaluate_segmentation, segmentation_metrics
from meddiffusers.evaluation.segmentation.scores import score, strata

SIZE = 32
RADII = (3, 5, 8, 10, 12, 0, 0, 14)  # pixels of 2 mm²: areas of every stratum, and two slices without foreground
CLASSES = {0: "background", 1: "oedema", 2: "core"}


def discs(radii: np.ndarray) -> np.ndarray:
    """(…, SIZE, SIZE) levels, above 0 within the radius, 1 at half of it; nothing at radius 0."""
    rows, columns = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    return 2 - 2 * np.hypot(rows, columns) / np.maximum(radii, 1e-6)[..., None, None]


def labels(levels: np.ndarray) -> np.ndarray:
    return np.digitize(levels, (0, 1)).astype(np.uint8)


def result(seed: int = 0, samples: int = 3, raters: int = 2) -> SegmentationResult:
    """Concentric discs: the mask, the samples and the raters have radii about those of the reference."""
    rng = np.random.default_rng(seed)
    radii = np.array(RADII, dtype=float)

    def near(*shape: int) -> np.ndarray:
        return radii.reshape(-1, *[1] * len(shape)) * rng.uniform(0.7, 1.3, (len(radii), *shape))

    marks = labels(discs(near(samples)))
    marks[5, 0, :2, :2] = 1  # a false positive of one sample
    mask = labels(discs(near()))
    mask[5, 4:6, 4:6] = 1
    probability = ndimage.gaussian_filter(
        (marks[:, None] == np.arange(3)[:, None, None, None]).mean(axis=2), (0, 0, 1, 1)
    )
    uncertainty = 1 - (probability**2).sum(axis=1)
    reference = labels(discs(radii))
    return SegmentationResult(
        mask=mask,
        probability=probability.astype(np.float32),
        uncertainty=uncertainty.astype(np.float32),
        samples=marks,
        raters=labels(discs(near(raters))),
        reference=reference,
        images=((reference + rng.random(reference.shape)) / 3).astype(np.float32),
        subjects=["b", "b", "a", "a", "c", "c", "d", "d"],
        spacing=(2.0, 1.0),
        id2label=CLASSES,
    )


def perfect(of: SegmentationResult) -> SegmentationResult:
    """The reference, for sure, by everyone."""
    one_hot = (of.reference[:, None] == np.arange(3)[:, None, None]).astype(np.float32)
    everyone = of.reference[:, None].repeat(3, axis=1)
    nothing = np.zeros_like(of.uncertainty)
    return replace(of, mask=of.reference, probability=one_hot, uncertainty=nothing, samples=everyone, raters=everyone)


def by_key(metrics: list[Metric]) -> dict[str, Metric]:
    keys = {metric.key: metric for metric in metrics}
    assert len(keys) == len(metrics)
    return keys


def test_overlap_is_the_mean_over_slices_that_have_the_class() -> None:
    of = result()
    metrics = by_key(segmentation_metrics(of, "discs", seed=3))
    has_lesion = np.array(RADII) > 0
    whole = overlap(of.mask > 0, of.reference > 0, (1,), of.spacing)[has_lesion]
    for key, values in (
        ("dice_whole", whole.dice),
        ("jaccard_whole", whole.jaccard),
        ("hd95_whole", whole.hd95),
    ):
        found = metrics[key]
        assert (found.value, found.n) == (pytest.approx(values.mean()), 6)
        subjects = [name for name, kept in zip(of.subjects, has_lesion, strict=True) if kept]
        assert (found.low, found.high) == bootstrap_mean_interval(values.ravel(), subjects, seed=3)
    core = overlap(of.mask == 2, of.reference == 2, (1,), of.spacing)[has_lesion]
    assert metrics["dice_core"].value == pytest.approx(core.dice.mean())
    assert metrics["hd95_oedema"].n == 6
    assert "72 mm where the mask has none" in metrics["hd95_core"].note  # √(64² + 32²)


def test_a_class_counts_only_where_the_reference_has_it() -> None:
    of = result()
    reference = of.reference.copy()
    reference[:4][reference[:4] == 2] = 1
    metrics = by_key(segmentation_metrics(replace(of, reference=reference), "discs", seed=0))
    assert metrics["dice_core"].n == 2
    assert metrics["dice_whole"].n == 6


def test_a_missed_lesion_counts_as_0_and_at_the_diagonal() -> None:
    of = result()
    found = by_key(segmentation_metrics(replace(of, mask=np.zeros_like(of.mask)), "discs", seed=0))
    assert (found["dice_whole"].value, found["hd95_whole"].value) == (0, pytest.approx(np.hypot(64, 32)))
    assert found["false_positive_slices"].value == 0


def test_strata_share_the_slices_with_foreground() -> None:
    of = result()
    metrics = by_key(segmentation_metrics(of, "discs", seed=0))
    dice = overlap(of.mask > 0, of.reference > 0, (1,), of.spacing).dice[:, 0]
    assert of.area == pytest.approx(2 * np.pi * np.square(RADII), abs=20)  # the border's pixels
    expected = {
        "under 150 mm²": [number for number in range(8) if 0 < of.area[number] < 150],
        "150 to 600 mm²": [number for number in range(8) if 150 <= of.area[number] <= 600],
        "over 600 mm²": [number for number in range(8) if of.area[number] > 600],
    }
    for title, slices in expected.items():
        found = metrics[metric_key("dice_whole", title)]
        assert (found.value, found.n) == (pytest.approx(dice[slices].mean()), len(slices))


def test_limits_of_strata_are_in_the_middle_and_empty_ones_are_left_out() -> None:
    inside = strata(np.array([0, 149.9, 150, 600, 600.1]))
    assert [list(np.flatnonzero(of)) for of in inside.values()] == [[1], [2, 3], [4]]
    of = result()
    small = replace(of, spacing=(0.5, 0.25))
    keys = by_key(segmentation_metrics(small, "discs", seed=0))
    assert "dice_whole_under_150_mm2" in keys
    assert not any("over_600" in key or "150_to_600" in key for key in keys)


def test_false_positives_are_sought_where_there_is_nothing() -> None:
    of = result()
    found = by_key(segmentation_metrics(of, "discs", seed=0))["false_positive_slices"]
    assert (found.value, found.n, found.low, found.high) == (0.5, 2, 0, 1)
    kept = np.array(RADII) > 0
    arrays = ("mask", "probability", "uncertainty", "samples", "raters", "reference", "images")
    everywhere = replace(of, subjects=list("bbaacd"), **{name: getattr(of, name)[kept] for name in arrays})
    assert "false_positive_slices" not in by_key(segmentation_metrics(everywhere, "discs", seed=0))


def test_uncertainty_is_measured_by_subject() -> None:
    of = result()
    metrics = by_key(segmentation_metrics(of, "discs", seed=0))
    wrong = of.mask != of.reference
    pairs = [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8)]
    aurocs = [error_uncertainty_auroc(of.uncertainty[pair], wrong[pair]) for pair in pairs]
    found = metrics["auroc_error_uncertainty"]
    assert (found.value, found.n) == (pytest.approx(np.mean(aurocs)), 4)
    assert min(aurocs) <= found.low < found.high <= max(aurocs)
    area = metrics["dice_rejection_auc"]
    assert area.n == 4
    assert metrics["dice_whole"].value < area.value < 1


def test_calibration_is_that_of_all_pixels() -> None:
    of = result()
    found = by_key(segmentation_metrics(of, "discs", seed=0))["ece"]
    foreground, truth = 1 - of.probability[:, 0], of.reference > 0
    place = np.minimum(foreground * 15, 14).astype(int)
    gaps = [abs((truth[place == b] - foreground[place == b]).sum()) for b in range(15)]
    assert found.value == pytest.approx(sum(gaps) / truth.size, rel=1e-4)
    assert found.n == 8
    assert found.low <= found.value <= found.high


def test_energy_distances_are_means_over_all_slices() -> None:
    of = result()
    metrics = by_key(segmentation_metrics(of, "discs", seed=0))
    for key, maps, unbiased in (
        ("ged_samples", of.samples, True),
        ("ged_mask", of.mask[:, None], True),
        ("ged_samples_all_pairs", of.samples, False),
    ):
        expected = np.mean([energy_distance(maps[n], of.raters[n], unbiased=unbiased) for n in range(8)])
        found = metrics[key]
        assert (found.value, found.n) == (pytest.approx(expected), 8)


def test_the_reference_itself_is_perfect() -> None:
    metrics = by_key(segmentation_metrics(perfect(result()), "discs", seed=0))
    assert "auroc_error_uncertainty" not in metrics  # there are no errors
    for key, metric in metrics.items():
        best = 1 if key.startswith(("dice", "jaccard")) else 0
        assert (metric.value, metric.low, metric.high) == pytest.approx((best, best, best), abs=1e-12)
        assert metric.spread == "95 % bootstrap over subjects"


def test_two_classes_have_no_metrics_by_class() -> None:
    of = result()
    binary = {name: (getattr(of, name) > 0).astype(np.uint8) for name in ("mask", "samples", "raters", "reference")}
    probability = np.stack([of.probability[:, 0], of.probability[:, 1:].sum(axis=1)], axis=1)
    two = replace(of, probability=probability, id2label={0: "background", 1: "lesion"}, **binary)
    keys = by_key(segmentation_metrics(two, "discs", seed=0))
    assert "dice_whole" in keys
    assert not any("lesion" in key for key in keys)


@pytest.mark.slow
def test_the_report_is_saved_as_it_is_and_its_curves_add_up(tmp_path: Path) -> None:
    of = result()
    report = evaluate_segmentation(of, dataset="discs", seed=7)
    assert report.metrics == segmentation_metrics(of, "discs", seed=7)
    assert report.run["seed"] == 7
    details = report.details
    assert details["strata"] == {title: int(inside.sum()) for title, inside in strata(of.area).items()}
    reliability = details["reliability"]
    assert sum(reliability["pixels"]) == of.mask.size
    gaps = np.abs(np.subtract(reliability["mean_probability"], reliability["foreground"]))
    assert np.average(gaps, weights=reliability["pixels"]) == pytest.approx(report.value("ece"))
    curves = details["rejection"]
    area = np.trapezoid(curves["by uncertainty"], curves["fraction"]) / 0.1
    assert area == pytest.approx(report.value("dice_rejection_auc"))
    assert np.less_equal(curves["at random"], np.add(curves["errors first"], 1e-12)).all()
    text = report.save(tmp_path).read_text(encoding="utf-8")
    assert "NaN" not in text
    assert json.loads(text)["details"]["classes"] == {"0": "background", "1": "oedema", "2": "core"}
    assert len(list((tmp_path / "figures").iterdir())) == 2


def test_slices_are_shown_for_what_they_are() -> None:
    of = result()
    chosen = select_slices(of, score(of))
    dice = overlap(of.mask > 0, of.reference > 0, (1,), of.spacing)[:, 0].where(of.area > 0).dice
    reasons = {title.partition("\n")[0]: number for number, title in chosen.items()}
    assert list(reasons)[:3] == ["best", "median", "worst"]
    assert reasons["best"] == np.nanargmax(dice)
    assert reasons["worst"] == np.nanargmin(dice)
    assert reasons["false positive"] == 5
    assert len(set(chosen)) == len(chosen) == 6
    assert f"Dice {np.nanmax(dice):.2f}" in chosen[reasons["best"]]
    assert "8 mm²" in chosen[5]
    single = replace(of, raters=of.raters[:, :1])
    assert "most uncertain" in {title.partition("\n")[0] for title in select_slices(single, score(single)).values()}


@pytest.mark.slow
def test_one_slice_is_enough() -> None:
    of = result()
    arrays = ("mask", "probability", "uncertainty", "samples", "raters", "reference", "images")
    one = replace(of, subjects=["a"], **{name: getattr(of, name)[3:4] for name in arrays})
    report = evaluate_segmentation(one, dataset="discs")
    assert all(metric.low == metric.value == metric.high for metric in report.metrics)
    assert [title.partition("\n")[0] for title in select_slices(one, score(one)).values()] == ["best"]


@pytest.mark.slow
def test_the_figure_has_a_row_for_several_raters_and_outlines_in_the_colours_of_classes() -> None:
    of = result()
    single = replace(of, raters=of.raters[:, :1])
    several, one = slices_figure(of, score(of)), slices_figure(single, score(single))
    assert several.height - one.height == pytest.approx(1.5 * 140, abs=2)
    pixels = np.asarray(several)
    for colour in ((255, 64, 64), (64, 119, 255)):
        assert (np.abs(pixels - np.array(colour)).max(axis=2) < 6).sum() > 300


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": np.zeros((8, 32), np.uint8)}, r"reference has shape \(8, 32\); expected \(B, H, W\)"),
        ({"mask": np.zeros((8, 32, 31), np.uint8)}, r"mask has shape \(8, 32, 31\); expected \(8, 32, 32\)"),
        ({"samples": np.zeros((8, 32, 32), np.uint8)}, r"samples has shape .*; expected \(8, M, 32, 32\)"),
        ({"raters": np.zeros((8, 0, 32, 32), np.uint8)}, r"raters has shape .*; expected \(8, R, 32, 32\)"),
        ({"probability": np.zeros((7, 3, 32, 32), np.float32)}, r"probability has shape .*; expected \(8, K, 32, 32\)"),
        ({"subjects": ["a"]}, "Got 1 subjects for 8 slices; expected a name for each slice"),
        ({"id2label": {0: "background", 1: "core"}}, r"ids \[0, 1\] and there are probabilities of 3 classes"),
        ({"id2label": {0: "background", 1: "core", 2: "core"}}, "background, core, core; expected each once"),
        ({"mask": np.full((8, 32, 32), 4, np.uint8)}, "mask holds uint8 up to 4; expected uint8 label ids, 0 to 2"),
        ({"samples": np.zeros((8, 2, 32, 32))}, "samples holds float64 up to 0.0; .*map the labels"),
        ({"probability": np.full((8, 3, 32, 32), 0.5, np.float32)}, "sums to 1.5 to 1.5 .*apply the softmax"),
        ({"probability": np.full((8, 3, 32, 32), np.nan, np.float32)}, "apply the softmax over axis 1"),
        ({"uncertainty": np.full((8, 32, 32), np.inf, np.float32)}, "uncertainty holds NaN or infinite"),
        ({"images": np.full((8, 32, 32), 255, np.float32)}, r"images range from 255 to 255; expected \[0, 1\]"),
        ({"spacing": (1.0, 0.0)}, r"spacing=\(1.0, 0.0\); expected \(row, column\) edge lengths of a pixel, mm"),
        ({"spacing": (1.0, 1.0, 1.0)}, r"spacing=\(1.0, 1.0, 1.0\)"),
    ],
)
def test_other_results_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(result(), **changes)


def test_without_any_foreground_there_is_nothing_to_measure() -> None:
    of = result()
    with pytest.raises(ValueError, match=r"None of the 8 reference slices has foreground; .*choose other slices"):
        segmentation_metrics(replace(of, reference=np.zeros_like(of.reference)), "discs", seed=0)


@pytest.mark.slow
def test_both_sources_of_the_probability_are_measured() -> None:
    """The own one gives the metrics that the report has anyway; a perfect one is perfect."""
    of = result()
    mask = (of.foreground > 0.5).astype(np.uint8)
    sources = {"prior": of.foreground, "samples": (of.reference > 0).astype(np.float32)}
    found = by_key(segmentation_metrics(replace(of, mask=mask, foregrounds=sources), "discs", seed=2))
    for key in ("dice_whole", "ece"):
        own, same = found[key], found[f"{key}_prior"]
        assert (same.value, same.low, same.high, same.n) == (own.value, own.low, own.high, own.n)
    assert found["dice_whole_samples"].value == 1 and found["ece_samples"].value == 0
    assert found["dice_whole_samples"].name == "Dice, whole, p from the mean of the members"
    assert not any("prior" in metric.key for metric in segmentation_metrics(of, "discs", seed=2))


def test_sources_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"foregrounds\['prior'\] has shape \(2, 2\); expected \(8,"):
        replace(result(), foregrounds={"prior": np.zeros((2, 2))})
