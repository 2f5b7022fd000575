"""Generalised energy distance between sampled label maps and those of several raters.

    D² = 2 E[d(S, Y)] − E[d(S, S')] − E[d(Y, Y')],    d(a, b) = 1 − |a ∩ b| / |a ∪ b|, of the foreground

S, S'   independent samples of the model
Y, Y'   independent raters; d = 0 between two empty masks

Székely and Rizzo, Energy statistics, J. Stat. Plan. Inference 2013; Kohl et al., A probabilistic U-Net, NeurIPS 2018,
section 4. d is a metric of negative type, so D² is 0 for equal distributions and positive otherwise.
"""

from __future__ import annotations

import numpy as np


def energy_distance(samples: np.ndarray, raters: np.ndarray, *, unbiased: bool) -> float:
    """Compute D² between the label maps of one image.

    Args:
        samples: (M, …) label maps of the model; ids above 0 are foreground.
        raters: (R, …) label maps of the raters.
        unbiased: False, as Kohl et al.: E[d(S, S')] is the mean over all M² pairs, including a sample with itself, and
            likewise for raters. Never negative, but larger for fewer samples: compare at equal M only. True: the mean
            over pairs of different samples and raters, comparable between different M; can be negative. A single map
            (M = 1 or R = 1) is a point mass with d(S, S') = 0.

    Raises:
        ValueError: There are no samples or raters, or their shapes differ.
    """
    if samples.ndim < 2 or samples.shape[1:] != raters.shape[1:] or not (len(samples) and len(raters)):
        raise ValueError(
            f"energy_distance got samples of shape {samples.shape} and raters of shape {raters.shape}; expected "
            "(M, …) and (R, …), one or more label maps of one image."
        )
    distances = _distances(np.concatenate([samples, raters]).reshape(len(samples) + len(raters), -1) > 0)
    m = len(samples)
    within = _within(distances[:m, :m], unbiased) + _within(distances[m:, m:], unbiased)
    return float(2 * distances[:m, m:].mean() - within)


def _distances(masks: np.ndarray) -> np.ndarray:
    """(Q, Q) values of d between masks (Q, P)."""
    masks = masks[:, masks.any(axis=0)].astype(np.float32)  # sums of ones are exact up to 2²⁴ foreground pixels
    intersection = (masks @ masks.T).astype(np.float64)
    size = intersection.diagonal()
    union = size[:, None] + size - intersection
    return 1 - np.divide(intersection, union, out=np.ones_like(union), where=union > 0)


def _within(distances: np.ndarray, unbiased: bool) -> float:
    """Mean distance between maps of one source; the diagonal is 0."""
    n = len(distances)
    return float(distances.sum() / (n * max(n - 1, 1) if unbiased else n * n))
