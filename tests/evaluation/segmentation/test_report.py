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
from meddiffusers.evaluation.results import Metric
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


def by_name(metrics: list[Metric]) -> dict[str, Metric]:
    names = {metric.name: metric for metric in metrics}
    assert len(names) == len(metrics)
    return names


def test_overlap_is_the_mean_over_slices_that_have_the_class() -> None:
    of = result()
    metrics = by_name(segmentation_metrics(of, "discs", seed=3))
    drawn = np.array(RADII) > 0
    whole = overlap(of.mask > 0, of.reference > 0, (1,), of.spacing)[drawn]
    for name, values in (
        ("Dice, whole", whole.dice),
        ("Jaccard, whole", whole.jaccard),
        ("HD95, whole [mm]", whole.hd95),
    ):
        found = metrics[name]
        assert (found.value, found.n) == (pytest.approx(values.mean()), 6)
        subjects = [name for name, kept in zip(of.subjects, drawn, strict=True) if kept]
        assert (found.low, found.high) == bootstrap_mean_interval(values.ravel(), subjects, seed=3)
    core = overlap(of.mask == 2, of.reference == 2, (1,), of.spacing)[drawn]
    assert metrics["Dice, core"].value == pytest.approx(core.dice.mean())
    assert metrics["HD95, oedema [mm]"].n == 6
    assert "72 mm where the mask has none" in metrics["HD95, core [mm]"].note  # √(64² + 32²)


def test_a_class_counts_only_where_the_reference_has_it() -> None:
    of = result()
    reference = of.reference.copy()
    reference[:4][reference[:4] == 2] = 1
    metrics = by_name(segmentation_metrics(replace(of, reference=reference), "discs", seed=0))
    assert metrics["Dice, core"].n == 2
    assert metrics["Dice, whole"].n == 6


def test_a_missed_lesion_counts_as_0_and_at_the_diagonal() -> None:
    of = result()
    found = by_name(segmentation_metrics(replace(of, mask=np.zeros_like(of.mask)), "discs", seed=0))
    assert (found["Dice, whole"].value, found["HD95, whole [mm]"].value) == (0, pytest.approx(np.hypot(64, 32)))
    assert found["false positives"].value == 0


def test_strata_share_the_slices_with_foreground() -> None:
    of = result()
    metrics = by_name(segmentation_metrics(of, "discs", seed=0))
    dice = overlap(of.mask > 0, of.reference > 0, (1,), of.spacing).dice[:, 0]
    assert of.area == pytest.approx(2 * np.pi * np.square(RADII), abs=20)  # the border's pixels
    expected = {
        "under 150 mm²": [number for number in range(8) if 0 < of.area[number] < 150],
        "150 to 600 mm²": [number for number in range(8) if 150 <= of.area[number] <= 600],
        "over 600 mm²": [number for number in range(8) if of.area[number] > 600],
    }
    for title, slices in expected.items():
        found = metrics[f"Dice, whole, {title}"]
        assert (found.value, found.n) == (pytest.approx(dice[slices].mean()), len(slices))


def test_limits_of_strata_are_in_the_middle_and_empty_ones_are_left_out() -> None:
    inside = strata(np.array([0, 149.9, 150, 600, 600.1]))
    assert [list(np.flatnonzero(of)) for of in inside.values()] == [[1], [2, 3], [4]]
    of = result()
    small = replace(of, spacing=(0.5, 0.25))
    names = by_name(segmentation_metrics(small, "discs", seed=0))
    assert "Dice, whole, under 150 mm²" in names
    assert not any("over 600 mm²" in name or "150 to 600" in name for name in names)


def test_false_positives_are_sought_where_there_is_nothing() -> None:
    of = result()
    found = by_name(segmentation_metrics(of, "discs", seed=0))["false positives"]
    assert (found.value, found.n, found.low, found.high) == (0.5, 2, 0, 1)
    kept = np.array(RADII) > 0
    arrays = ("mask", "probability", "uncertainty", "samples", "raters", "reference", "images")
    everywhere = replace(of, subjects=list("bbaacd"), **{name: getattr(of, name)[kept] for name in arrays})
    assert "false positives" not in by_name(segmentation_metrics(everywhere, "discs", seed=0))


def test_uncertainty_is_measured_by_subject() -> None:
    of = result()
    metrics = by_name(segmentation_metrics(of, "discs", seed=0))
    wrong = of.mask != of.reference
    pairs = [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8)]
    aurocs = [error_uncertainty_auroc(of.uncertainty[pair], wrong[pair]) for pair in pairs]
    found = metrics["error–uncertainty AUROC"]
    assert (found.value, found.n) == (pytest.approx(np.mean(aurocs)), 4)
    assert min(aurocs) <= found.low < found.high <= max(aurocs)
    area = metrics["area under Dice–rejection curve to 10%"]
    assert area.n == 4
    assert metrics["Dice, whole"].value < area.value < 1


def test_calibration_is_that_of_all_pixels() -> None:
    of = result()
    found = by_name(segmentation_metrics(of, "discs", seed=0))["expected calibration error"]
    foreground, truth = 1 - of.probability[:, 0], of.reference > 0
    place = np.minimum(foreground * 15, 14).astype(int)
    gaps = [abs((truth[place == b] - foreground[place == b]).sum()) for b in range(15)]
    assert found.value == pytest.approx(sum(gaps) / truth.size, rel=1e-4)
    assert found.n == 8
    assert found.low <= found.value <= found.high


def test_energy_distances_are_means_over_all_slices() -> None:
    of = result()
    metrics = by_name(segmentation_metrics(of, "discs", seed=0))
    for name, maps, unbiased in (
        ("samples", of.samples, True),
        ("mask alone", of.mask[:, None], True),
        ("samples, all pairs", of.samples, False),
    ):
        expected = np.mean([energy_distance(maps[n], of.raters[n], unbiased=unbiased) for n in range(8)])
        found = metrics[f"generalised energy distance, {name}"]
        assert (found.value, found.n) == (pytest.approx(expected), 8)


def test_the_reference_itself_is_perfect() -> None:
    metrics = by_name(segmentation_metrics(perfect(result()), "discs", seed=0))
    assert "error–uncertainty AUROC" not in metrics  # there are no errors
    for name, metric in metrics.items():
        best = 1 if name.startswith(("Dice", "Jaccard", "area")) else 0
        assert (metric.value, metric.low, metric.high) == pytest.approx((best, best, best), abs=1e-12)
        assert metric.spread == "95 % bootstrap over subjects"


def test_two_classes_have_no_figures_by_class() -> None:
    of = result()
    binary = {name: (getattr(of, name) > 0).astype(np.uint8) for name in ("mask", "samples", "raters", "reference")}
    probability = np.stack([of.probability[:, 0], of.probability[:, 1:].sum(axis=1)], axis=1)
    two = replace(of, probability=probability, id2label={0: "background", 1: "lesion"}, **binary)
    names = by_name(segmentation_metrics(two, "discs", seed=0))
    assert "Dice, whole" in names
    assert not any("lesion" in name for name in names)


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
    assert np.average(gaps, weights=reliability["pixels"]) == pytest.approx(report.value("expected calibration error"))
    curves = details["rejection"]
    area = np.trapezoid(curves["by uncertainty"], curves["fraction"]) / 0.1
    assert area == pytest.approx(report.value("area under Dice–rejection curve to 10%"))
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
    assert "least sure" in {title.partition("\n")[0] for title in select_slices(single, score(single)).values()}


def test_one_slice_is_enough() -> None:
    of = result()
    arrays = ("mask", "probability", "uncertainty", "samples", "raters", "reference", "images")
    one = replace(of, subjects=["a"], **{name: getattr(of, name)[3:4] for name in arrays})
    report = evaluate_segmentation(one, dataset="discs")
    assert all(metric.low == metric.value == metric.high for metric in report.metrics)
    assert [title.partition("\n")[0] for title in select_slices(one, score(one)).values()] == ["best"]


def test_the_image_has_a_row_for_several_raters_and_outlines_in_the_colours_of_classes() -> None:
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
        ({"reference": np.zeros((8, 32), np.uint8)}, r"reference has shape \(8, 32\); expected \(N, H, W\)"),
        ({"mask": np.zeros((8, 32, 31), np.uint8)}, r"mask has shape \(8, 32, 31\); expected \(8, 32, 32\)"),
        ({"samples": np.zeros((8, 32, 32), np.uint8)}, r"samples has shape .*; expected \(8, M, 32, 32\)"),
        ({"raters": np.zeros((8, 0, 32, 32), np.uint8)}, r"raters has shape .*; expected \(8, R, 32, 32\)"),
        ({"probability": np.zeros((7, 3, 32, 32), np.float32)}, r"probability has shape .*; expected \(8, K, 32, 32\)"),
        ({"subjects": ["a"]}, "Got 1 subjects of 8 slices; expected a name for each slice"),
        ({"id2label": {0: "background", 1: "core"}}, r"ids \[0, 1\] and there are probabilities of 3 classes"),
        ({"id2label": {0: "background", 1: "core", 2: "core"}}, "background, core, core; expected each once"),
        ({"mask": np.full((8, 32, 32), 4, np.uint8)}, "mask holds uint8 up to 4; expected uint8 label ids, 0 to 2"),
        ({"samples": np.zeros((8, 2, 32, 32))}, "samples holds float64 up to 0.0; .*map the labels"),
        ({"probability": np.full((8, 3, 32, 32), 0.5, np.float32)}, "sums to 1.5 to 1.5 .*apply the softmax"),
        ({"probability": np.full((8, 3, 32, 32), np.nan, np.float32)}, "apply the softmax over axis 1"),
        ({"uncertainty": np.full((8, 32, 32), np.inf, np.float32)}, "uncertainty is NaN or infinite"),
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
