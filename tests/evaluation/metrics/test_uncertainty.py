from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from meddiffusers.evaluation.metrics.uncertainty import (
    BINS,
    FRACTIONS,
    area_under_rejection,
    dice_rejection,
    error_uncertainty_auroc,
    expected_calibration_error,
    reliability_bins,
)


def probabilities(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(n, dtype=np.float32)


def test_bins_are_those_of_scikit_learn() -> None:
    probability = probabilities(5000)
    foreground = np.random.default_rng(1).random(5000) < probability**2
    pixels, total, positives = reliability_bins(probability, foreground)
    part, mean = calibration_curve(foreground, probability, n_bins=BINS)
    assert pixels.sum() == 5000
    assert positives / pixels == pytest.approx(part)
    assert total / pixels == pytest.approx(mean, rel=1e-6)


def test_a_bin_has_its_lower_edge_and_the_last_has_1() -> None:
    edges = np.arange(BINS + 1) / BINS
    pixels, _, _ = reliability_bins(edges, edges > 0.5)
    assert pixels.tolist() == [1] * (BINS - 1) + [2]


def test_calibration_error_is_worked_by_hand() -> None:
    probability = np.array([0.1, 0.1, 0.1, 0.1, 0.9])
    foreground = np.array([True, False, False, False, False])
    bins = reliability_bins(probability, foreground)
    assert expected_calibration_error(bins) == pytest.approx((4 * 0.15 + 0.9) / 5)


def test_calibrated_probabilities_have_no_error_and_a_wrong_sharpness_shows() -> None:
    probability = probabilities(400_000)
    foreground = np.random.default_rng(1).random(400_000) < probability
    assert expected_calibration_error(reliability_bins(probability, foreground)) < 0.005
    halved = expected_calibration_error(reliability_bins(probability / 2, foreground))
    assert halved == pytest.approx(0.25, abs=0.005)  # the mean of p − p/2


def test_bins_of_images_add_up() -> None:
    probability = probabilities(900).reshape(3, 10, 30)
    foreground = probabilities(900, seed=1).reshape(3, 10, 30) < probability
    apart = np.stack([reliability_bins(*image) for image in zip(probability, foreground, strict=True)])
    whole = reliability_bins(probability, foreground)
    np.testing.assert_allclose(apart.sum(axis=0), whole)
    assert expected_calibration_error(apart).shape == (3,)
    assert expected_calibration_error(apart)[1] == expected_calibration_error(apart[1])


@pytest.mark.parametrize("levels", [2, 7, 10**6])
@pytest.mark.parametrize("errors", [1, 300, 1999])
def test_auroc_is_that_of_scikit_learn_also_with_ties(levels: int, errors: int) -> None:
    rng = np.random.default_rng(levels + errors)
    uncertainty = rng.integers(levels, size=2000).astype(np.float32)
    wrong = np.zeros(2000, dtype=bool)
    wrong[np.argsort(uncertainty + levels * rng.random(2000))[-errors:]] = True
    found = error_uncertainty_auroc(uncertainty.reshape(2, 1000), wrong.reshape(2, 1000))
    assert found == pytest.approx(roc_auc_score(wrong, uncertainty), rel=1e-12)


def test_auroc_has_its_ends_and_its_middle() -> None:
    wrong = np.array([True, False, False])
    assert error_uncertainty_auroc(np.array([3.0, 1.0, 2.0]), wrong) == 1
    assert error_uncertainty_auroc(np.array([0.0, 1.0, 2.0]), wrong) == 0
    assert error_uncertainty_auroc(np.ones(3), wrong) == 0.5
    assert np.isnan(error_uncertainty_auroc(np.ones(3), np.ones(3, dtype=bool)))
    assert np.isnan(error_uncertainty_auroc(np.ones(3), np.zeros(3, dtype=bool)))


@pytest.mark.slow
def test_ten_million_pixels_take_seconds() -> None:
    uncertainty = probabilities(10**7)
    wrong = probabilities(10**7, seed=1) < 0.04 * uncertainty
    start = time.perf_counter()
    found = error_uncertainty_auroc(uncertainty, wrong)
    assert time.perf_counter() - start < 10
    assert found == pytest.approx(2 / 3, abs=0.005)  # density 2u of the errors, 1 of nearly all others


def rejected_by_hand(uncertainty: np.ndarray, mask: np.ndarray, reference: np.ndarray) -> list[float]:
    """Dice with the most uncertain pixels set right, for distinct uncertainties."""
    order, curve = np.argsort(-uncertainty), []
    for fraction in FRACTIONS:
        given = order[: round(fraction * len(order))]
        corrected = mask.copy()
        corrected[given] = reference[given]
        curve.append(2 * (corrected & reference).sum() / (corrected.sum() + reference.sum()))
    return curve


def example(n: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct uncertainties, a mask and a reference; n · FRACTIONS are whole numbers."""
    rng = np.random.default_rng(0)
    reference = rng.random(n) < 0.1
    mask = reference ^ (rng.random(n) < 0.04)
    return rng.permutation(n) + (n / 2 + 0.5) * (mask ^ reference), mask, reference


def test_rejection_sets_the_most_uncertain_right() -> None:
    uncertainty, mask, reference = example()
    curve = dice_rejection(uncertainty, mask, reference)
    assert curve == pytest.approx(rejected_by_hand(uncertainty, mask, reference), rel=1e-12)
    shaped = (of.reshape(40, 100) for of in (uncertainty, mask, reference))
    np.testing.assert_array_equal(dice_rejection(*shaped), curve)


def test_rejection_starts_at_dice_and_is_1_after_as_many_pixels_as_there_are_errors() -> None:
    _, mask, reference = example()
    wrong = mask ^ reference
    curve = dice_rejection(wrong, mask, reference)
    assert curve[0] == pytest.approx(2 * (mask & reference).sum() / (mask.sum() + reference.sum()))
    assert (curve == 1).tolist() == (FRACTIONS * wrong.size >= wrong.sum()).tolist()


def test_ties_are_the_mean_over_their_orders_as_far_as_counts_go() -> None:
    """Errors of one kind alone make Dice nearly linear in their count, so that both means agree."""
    _, mask, reference = example()
    mask = mask & reference
    orders = [
        dice_rejection(np.random.default_rng(seed).permutation(mask.size), mask, reference) for seed in range(200)
    ]
    curve = dice_rejection(np.zeros(mask.size), mask, reference)
    assert curve == pytest.approx(np.mean(orders, axis=0), abs=1e-3)
    missed = (~mask & reference).sum() * (1 - FRACTIONS)
    hits = 2 * (reference.sum() - missed)
    assert curve == pytest.approx(hits / (hits + missed))


def test_partial_ties_are_counted_in_part() -> None:
    reference = np.zeros(1000, dtype=bool)
    reference[:10] = True
    mask = np.zeros(1000, dtype=bool)
    uncertainty = np.zeros(1000)
    uncertainty[:20], uncertainty[990:] = 1, 2  # ten right pixels, then twenty of which half are missed
    curve = dice_rejection(uncertainty, mask, reference)
    found = np.clip((FRACTIONS * 1000 - 10) / 2, 0, 10)
    assert curve == pytest.approx(2 * found / (found + 10))


def test_a_curve_without_reference_does_not_count() -> None:
    uncertainty, mask, reference = example()
    assert np.isnan(dice_rejection(uncertainty, mask, np.zeros_like(reference))).all()


def test_the_area_is_the_mean_height() -> None:
    assert area_under_rejection(np.ones(len(FRACTIONS))) == pytest.approx(1)
    assert area_under_rejection(np.stack([FRACTIONS, 2 * FRACTIONS])) == pytest.approx([0.05, 0.1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reliability_bins(np.zeros(3), np.zeros(4, bool)), r"probability of shape \(3,\), foreground of shape"),
        (lambda: reliability_bins(np.array([0.5, 1.5]), np.zeros(2, bool)), "from 0.5 to 1.5; expected all in"),
        (lambda: reliability_bins(np.array([0.5, np.nan]), np.zeros(2, bool)), "apply the softmax first"),
        (lambda: error_uncertainty_auroc(np.zeros(3), np.zeros(4, bool)), r"wrong of shape \(4,\); expected one shape"),
        (lambda: error_uncertainty_auroc(np.full(3, np.nan), np.zeros(3, bool)), "NaN or infinite; expected finite"),
        (lambda: dice_rejection(np.zeros(3), np.zeros(3, bool), np.zeros(4, bool)), r"reference of shape \(4,\)"),
        (lambda: dice_rejection(np.full(3, np.inf), *np.ones((2, 3), bool)), "dice_rejection got an uncertainty"),
    ],
)
def test_other_arrays_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
