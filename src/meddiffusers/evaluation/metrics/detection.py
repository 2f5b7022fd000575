"""Threshold-free detection metrics of anomaly maps: AUROC, average precision, best Dice.

Pixels are counted in bins of the map's value, so that metrics of many images, or of bootstrap resamples, need only
sums of counts. With P_b positive and N_b negative pixels in bin b, and all pixels at or above a bin detected:

    TPR_b = Σ_{c ≥ b} P_c / P,   FPR_b = Σ_{c ≥ b} N_c / N,   precision_b = Σ_{c ≥ b} P_c / Σ_{c ≥ b} (P_c + N_c)

    AUROC = ∫ TPR dFPR, by trapezoids: equal values count half
    AP = Σ_b precision_b (TPR_b − TPR_{b+1}), without interpolation
    best Dice = max_b 2 Σ_{c ≥ b} P_c / (P + Σ_{c ≥ b} (P_c + N_c))

Half of the bins hold equal numbers of pixels, the others fewer and fewer towards the highest values, which determine
the precision. If there are at most as many different values as bins, each value has its own bin.
"""

from __future__ import annotations

import numpy as np

BINS = 2000


def bin_edges(values: np.ndarray) -> np.ndarray:
    """Increasing edges (≤ BINS,) between bins of values of any shape.

    Raises:
        ValueError: There are no values, or they are not finite.
    """
    if not values.size or not np.isfinite(values).all():
        raise ValueError(f"bin_edges got {values.size} values; expected at least one, all finite.")
    ranked = np.sort(values, axis=None)
    different = ranked[np.flatnonzero(np.diff(ranked, prepend=-np.inf))]
    if len(different) <= BINS:
        return different[1:]
    evenly = np.arange(1, BINS // 2) * ranked.size / (BINS // 2)
    from_above = ranked.size - np.geomspace(1, ranked.size, BINS // 2)
    return np.unique(ranked[np.concatenate([evenly, from_above]).astype(np.intp)])


def detection_counts(values: np.ndarray, positive: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Count negative and positive pixels in each bin. Counts of several images can be added.

    Args:
        values: Map of any shape.
        positive: Bool reference of the same shape.
        edges: Edges from `bin_edges`.

    Returns:
        (2, edges + 1)

    Raises:
        ValueError: The shapes differ.
    """
    if values.shape != positive.shape:
        raise ValueError(
            f"Got values of shape {values.shape} and a reference of shape {positive.shape}; expected one shape."
        )
    place, count = np.searchsorted(edges, values, side="right"), len(edges) + 1
    return np.stack([np.bincount(place[of], minlength=count) for of in (~positive, positive)]).astype(float)


def auroc(counts: np.ndarray) -> np.ndarray:
    """AUROC (…,) from counts (…, 2, BINS); NaN without positives or negatives."""
    false, true = _rates(counts)
    return np.trapezoid(true, false, axis=-1)


def average_precision(counts: np.ndarray) -> np.ndarray:
    """Average precision (…,) from counts (…, 2, BINS); NaN without positives."""
    negatives, positives = np.moveaxis(_detected(counts), -2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(positives[..., 1:] / (positives + negatives)[..., 1:])
        recall = positives / positives[..., -1:]
    return (precision * np.diff(recall, axis=-1)).sum(axis=-1)


def best_dice(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Highest Dice over all thresholds, (…,), and the bin of that threshold, from counts (…, 2, BINS)."""
    negatives, positives = np.moveaxis(_detected(counts)[..., 1:], -2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        dice = 2 * positives / (positives[..., -1:] + positives + negatives)
    best = dice.argmax(axis=-1)
    return np.take_along_axis(dice, best[..., None], axis=-1)[..., 0], counts.shape[-1] - 1 - best


def _detected(counts: np.ndarray) -> np.ndarray:
    """(…, 2, BINS + 1) cumulative counts from the highest bin down, from none to all."""
    falling = np.flip(counts, axis=-1).cumsum(axis=-1)
    return np.concatenate([np.zeros_like(falling[..., :1]), falling], axis=-1)


def _rates(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    detected = _detected(counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = detected / detected[..., -1:]
    return rates[..., 0, :], rates[..., 1, :]
