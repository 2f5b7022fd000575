"""How well a map finds what it looks for, at every threshold at once: AUROC, average precision, best Dice.

Pixels are counted in bins of the map's value, so that metrics of many images, or of subjects drawn again and again by a
bootstrap, cost a sum of counts. With P_b positive and N_b negative pixels in bin b, those at or above it found:

    TPR_b = Σ_{c ≥ b} P_c / P,   FPR_b = Σ_{c ≥ b} N_c / N,   precision_b = Σ_{c ≥ b} P_c / Σ_{c ≥ b} (P_c + N_c)

    AUROC = ∫ TPR dFPR, by trapezoids: equal values count half
    AP = Σ_b precision_b (TPR_b − TPR_{b+1}), without interpolation
    best Dice = max_b 2 Σ_{c ≥ b} P_c / (P + Σ_{c ≥ b} (P_c + N_c))

Half of the bins hold the same number of pixels each, the others ever fewer towards the highest values, of which
precision is made; where there are no more different values than bins, each has one.
"""

from __future__ import annotations

import numpy as np

BINS = 2000


def bin_edges(values: np.ndarray) -> np.ndarray:
    """Rising edges (≤ BINS,) between bins; equal values share one.

    Raises:
        ValueError: there are none, or they are not finite.
    """
    if not values.size or not np.isfinite(values).all():
        raise ValueError(f"bin_edges got {values.size} values, of which some are not finite; expected finite ones.")
    ranked = np.sort(values, axis=None)
    different = ranked[np.flatnonzero(np.diff(ranked, prepend=-np.inf))]
    if len(different) <= BINS:
        return different[1:]
    evenly = np.arange(1, BINS // 2) * ranked.size / (BINS // 2)
    from_above = ranked.size - np.geomspace(1, ranked.size, BINS // 2)
    return np.unique(ranked[np.concatenate([evenly, from_above]).astype(np.intp)])


def detection_counts(values: np.ndarray, positive: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(2, edges + 1): negative and positive pixels in each bin; `values` and `positive` (bool) have one shape.

    Counts of two images add up to those of both. ValueError where the shapes differ.
    """
    if values.shape != positive.shape:
        raise ValueError(f"Got values of shape {values.shape} and truth of shape {positive.shape}; expected one shape.")
    place, count = np.searchsorted(edges, values, side="right"), len(edges) + 1
    return np.stack([np.bincount(place[of], minlength=count) for of in (~positive, positive)]).astype(float)


def auroc(counts: np.ndarray) -> np.ndarray:
    """(…,) of counts (…, 2, B). NaN without a positive or a negative."""
    false, true = _rates(counts)
    return np.trapezoid(true, false, axis=-1)


def average_precision(counts: np.ndarray) -> np.ndarray:
    """(…,) of counts (…, 2, B). NaN without a positive."""
    negatives, positives = np.moveaxis(_found(counts), -2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(positives[..., 1:] / (positives + negatives)[..., 1:])
        recall = positives / positives[..., -1:]
    return (precision * np.diff(recall, axis=-1)).sum(axis=-1)


def best_dice(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(…,) the highest Dice of any threshold, and the bin that it begins at, of counts (…, 2, B)."""
    negatives, positives = np.moveaxis(_found(counts)[..., 1:], -2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        dice = 2 * positives / (positives[..., -1:] + positives + negatives)
    best = dice.argmax(axis=-1)
    return np.take_along_axis(dice, best[..., None], axis=-1)[..., 0], counts.shape[-1] - 1 - best


def _found(counts: np.ndarray) -> np.ndarray:
    """(…, 2, B + 1): how many are at or above each bin, from none of them to all."""
    falling = np.flip(counts, axis=-1).cumsum(axis=-1)
    return np.concatenate([np.zeros_like(falling[..., :1]), falling], axis=-1)


def _rates(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = _found(counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = found / found[..., -1:]
    return rates[..., 0, :], rates[..., 1, :]
