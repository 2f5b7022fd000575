"""Is a segmentation as sure as it is right? Calibration, and whether uncertainty finds the errors.

    reliability    in each of B equal-width bins of the foreground's probability: its mean there, and what part of the
                   bin is foreground; equal where calibrated
    ECE            Σ_b (n_b / n) |foreground_b − probability_b|, the expected calibration error (Guo et al., ICML 2017)
    AUROC          the chance that a wrong pixel is more uncertain than a right one, equal values counting half
    rejection      Dice after the most uncertain fraction of all pixels went to an oracle, which gives them their true
                   label, as a function of the fraction (error retention curve of Malinin et al., Shifts 2.0, 2022)

Dice with an oracle is defined at every fraction, and 1 at last; Dice of kept pixels alone is not, once the foreground
is gone. Fractions end at 10 %: more is no help to anyone, and would bring every area near 1.
"""

from __future__ import annotations

import numpy as np

BINS = 15
FRACTIONS = np.linspace(0, 0.1, 41)


def reliability_bins(probability: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """(3, BINS): pixels in each bin, the sum of their probability, and how many are foreground.

    `probability` and `foreground` (bool) have one shape. Bins of two images add up to those of both. The lower edge
    belongs to a bin, the upper to the next; 1 is in the last.

    Raises:
        ValueError: the shapes differ, or a probability is not in [0, 1].
    """
    _same_shape("reliability_bins", probability=probability, foreground=foreground)
    if not ((probability >= 0) & (probability <= 1)).all():  # which NaN is not either
        raise ValueError(
            f"reliability_bins got probabilities from {probability.min():g} to {probability.max():g}; expected all in "
            "[0, 1]: pass what comes after the softmax."
        )
    place = np.minimum((probability * BINS).astype(np.intp), BINS - 1).ravel()
    weights = (None, probability.ravel(), foreground.ravel())
    return np.stack([np.bincount(place, weight, BINS) for weight in weights]).astype(float)


def expected_calibration_error(bins: np.ndarray) -> np.ndarray:
    """(…,) of reliability bins (…, 3, B)."""
    pixels, probability, foreground = np.moveaxis(bins, -2, 0)
    return np.abs(foreground - probability).sum(axis=-1) / pixels.sum(axis=-1)


def error_uncertainty_auroc(uncertainty: np.ndarray, wrong: np.ndarray) -> float:
    """Exact, ties counting half, of pixels of any number and shape; `wrong` is bool. NaN without a wrong or right one.

    The Mann–Whitney statistic by two sorts, which are quick: scikit-learn sorts indices, too slow for whole test sets.

    Raises:
        ValueError: the shapes differ, or an uncertainty is not finite.
    """
    _same_shape("error_uncertainty_auroc", uncertainty=uncertainty, wrong=wrong)
    _finite("error_uncertainty_auroc", uncertainty)
    right, errors = np.sort(uncertainty[~wrong]), np.sort(uncertainty[wrong])
    if not (right.size and errors.size):
        return np.nan
    below, not_above = (right.searchsorted(errors, side).sum(dtype=float) for side in ("left", "right"))
    return (below + not_above) / 2 / errors.size / right.size


def dice_rejection(uncertainty: np.ndarray, mask: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Dice at each of FRACTIONS of pixels given to the oracle, of binary masks; all three arguments of one shape.

    Of equally uncertain pixels of which some are given away, each is so with the same chance, and the counts are the
    expected ones: constant uncertainty gives the curve of random rejection. NaN where the reference is empty.

    Raises:
        ValueError: the shapes differ, or an uncertainty is not finite.
    """
    _same_shape("dice_rejection", uncertainty=uncertainty, mask=mask, reference=reference)
    _finite("dice_rejection", uncertainty)
    positives = np.count_nonzero(reference)
    if not positives:
        return np.full(len(FRACTIONS), np.nan)
    ranked = np.sort(uncertainty, axis=None)
    given = FRACTIONS * ranked.size
    last = ranked[ranked.size - np.clip(np.ceil(given).astype(int), 1, ranked.size)]  # the lowest that is given away
    surely, perhaps = ranked.size - ranked.searchsorted(last, "right"), ranked.size - ranked.searchsorted(last, "left")
    share = (given - surely) / (perhaps - surely)

    def kept(errors: np.ndarray) -> np.ndarray:
        values = np.sort(uncertainty[errors])
        above, at_least = (values.size - values.searchsorted(last, side) for side in ("right", "left"))
        return values.size - above - share * (at_least - above)

    false_positives, false_negatives = kept(mask & ~reference), kept(reference & ~mask)
    hits = 2 * (positives - false_negatives)
    return hits / (hits + false_positives + false_negatives)


def area_under_rejection(curve: np.ndarray) -> np.ndarray:
    """(…,) mean height of curves (…, F) over FRACTIONS: 1 if there is no error, or all were given away at once."""
    return np.trapezoid(curve, FRACTIONS, axis=-1) / (FRACTIONS[-1] - FRACTIONS[0])


def _same_shape(function: str, **arrays: np.ndarray) -> None:
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        got = ", ".join(f"{name} of shape {shape}" for name, shape in shapes.items())
        raise ValueError(f"{function} got {got}; expected one shape.")


def _finite(function: str, uncertainty: np.ndarray) -> None:
    if not np.isfinite(uncertainty).all():
        raise ValueError(f"{function} got an uncertainty that is NaN or infinite; expected finite ones.")
