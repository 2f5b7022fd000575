"""Calibration of a segmentation, and how well its uncertainty detects errors.

    reliability    in each of B equal-width bins of the foreground probability: its mean and the fraction of foreground,
                   which are equal for a calibrated model
    ECE            Σ_b (n_b / n) |foreground_b − probability_b|, the expected calibration error (Guo et al., ICML 2017)
    AUROC          probability that a wrong pixel is more uncertain than a correct one; ties count half
    rejection      Dice after an oracle corrects the most uncertain fraction of all pixels, as a function of that
                   fraction (error retention curve of Malinin et al., Shifts 2.0, 2022)

With an oracle the Dice is defined at every fraction and reaches 1. The Dice of the remaining pixels alone is undefined
once the foreground is rejected. Fractions end at 10 %: larger ones are of no practical use, and push every area to 1.
"""

from __future__ import annotations

import numpy as np

BINS = 15
FRACTIONS = np.linspace(0, 0.1, 41)


def reliability_bins(probability: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """Compute reliability bins. Bins of several images can be added.

    Args:
        probability: Foreground probability, any shape.
        foreground: Bool reference of the same shape.

    Returns:
        (3, BINS): number of pixels, sum of their probabilities, number of foreground pixels. Bins include their lower
        edge; the last one also includes 1.

    Raises:
        ValueError: The shapes differ, or a probability is not in [0, 1].
    """
    _same_shape("reliability_bins", probability=probability, foreground=foreground)
    if not ((probability >= 0) & (probability <= 1)).all():  # false for NaN too
        raise ValueError(
            f"reliability_bins got probabilities from {probability.min():g} to {probability.max():g}; expected all in "
            "[0, 1]: apply the softmax first."
        )
    place = np.minimum((probability * BINS).astype(np.intp), BINS - 1).ravel()
    weights = (None, probability.ravel(), foreground.ravel())
    return np.stack([np.bincount(place, weight, BINS) for weight in weights]).astype(float)


def expected_calibration_error(bins: np.ndarray) -> np.ndarray:
    """Expected calibration error (…,) from reliability bins (…, 3, BINS)."""
    pixels, probability, foreground = np.moveaxis(bins, -2, 0)
    return np.abs(foreground - probability).sum(axis=-1) / pixels.sum(axis=-1)


def error_uncertainty_auroc(uncertainty: np.ndarray, wrong: np.ndarray) -> float:
    """Compute the exact AUROC of uncertainty as a detector of wrong pixels.

    The Mann–Whitney statistic is computed with two sorts, much faster on whole test sets than scikit-learn, which sorts
    indices.

    Args:
        uncertainty: Uncertainty, any shape.
        wrong: Bool errors of the same shape.

    Returns:
        The AUROC; NaN without wrong or without correct pixels.

    Raises:
        ValueError: The shapes differ, or an uncertainty is not finite.
    """
    _same_shape("error_uncertainty_auroc", uncertainty=uncertainty, wrong=wrong)
    _finite("error_uncertainty_auroc", uncertainty)
    right, errors = np.sort(uncertainty[~wrong]), np.sort(uncertainty[wrong])
    if not (right.size and errors.size):
        return np.nan
    below, not_above = (right.searchsorted(errors, side).sum(dtype=float) for side in ("left", "right"))
    return (below + not_above) / 2 / errors.size / right.size


def dice_rejection(uncertainty: np.ndarray, mask: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Compute the Dice rejection curve of a binary mask.

    Ties are rejected with equal probability and expected counts are used: constant uncertainty gives the curve of
    random rejection.

    Args:
        uncertainty: Uncertainty, any shape.
        mask: Bool mask of the same shape.
        reference: Bool reference of the same shape.

    Returns:
        (F,) Dice at each of `FRACTIONS` of rejected pixels; NaN for an empty reference.

    Raises:
        ValueError: The shapes differ, or an uncertainty is not finite.
    """
    _same_shape("dice_rejection", uncertainty=uncertainty, mask=mask, reference=reference)
    _finite("dice_rejection", uncertainty)
    positives = np.count_nonzero(reference)
    if not positives:
        return np.full(len(FRACTIONS), np.nan)
    ranked = np.sort(uncertainty, axis=None)
    rejected = FRACTIONS * ranked.size
    last = ranked[ranked.size - np.clip(np.ceil(rejected).astype(int), 1, ranked.size)]  # lowest rejected value
    surely, perhaps = ranked.size - ranked.searchsorted(last, "right"), ranked.size - ranked.searchsorted(last, "left")
    share = (rejected - surely) / (perhaps - surely)

    def kept(errors: np.ndarray) -> np.ndarray:
        values = np.sort(uncertainty[errors])
        above, at_least = (values.size - values.searchsorted(last, side) for side in ("right", "left"))
        return values.size - above - share * (at_least - above)

    false_positives, false_negatives = kept(mask & ~reference), kept(reference & ~mask)
    hits = 2 * (positives - false_negatives)
    return hits / (hits + false_positives + false_negatives)


def area_under_rejection(curve: np.ndarray) -> np.ndarray:
    """Mean (…,) of curves (…, F) over `FRACTIONS`: 1 without errors, or if all errors are rejected first."""
    return np.trapezoid(curve, FRACTIONS, axis=-1) / (FRACTIONS[-1] - FRACTIONS[0])


def _same_shape(function: str, **arrays: np.ndarray) -> None:
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        got = ", ".join(f"{name} of shape {shape}" for name, shape in shapes.items())
        raise ValueError(f"{function} got {got}; expected one shape.")


def _finite(function: str, uncertainty: np.ndarray) -> None:
    if not np.isfinite(uncertainty).all():
        raise ValueError(f"{function} got an uncertainty that is NaN or infinite; expected finite ones.")
