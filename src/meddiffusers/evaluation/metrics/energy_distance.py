"""Generalised energy distance: do sampled label maps vary as those of several raters do?

    D² = 2 E[d(S, Y)] − E[d(S, S')] − E[d(Y, Y')],    d(a, b) = 1 − |a ∩ b| / |a ∪ b|, of the foreground

S, S'   independent samples of the model
Y, Y'   independent raters; one who marks nothing is at d = 0 from another who marks nothing

Székely and Rizzo, Energy statistics, J. Stat. Plan. Inference 2013; Kohl et al., A probabilistic U-Net, NeurIPS 2018,
section 4. d is a metric of negative type, so D² of two distributions is 0 where they are equal and else above.
"""

from __future__ import annotations

import numpy as np


def energy_distance(samples: np.ndarray, raters: np.ndarray, *, unbiased: bool) -> float:
    """D² of M samples (M, …) from R raters (R, …), label maps of one image; what is above 0 is foreground.

    unbiased=False, as Kohl et al.: E[d(S, S')] is the mean over all M² pairs, a sample with itself included, and so
    for raters. Never below 0, but the fewer the samples the larger: compare at one M only.
    unbiased=True: means over pairs of two different samples, of two different raters. Fair between different M; can be
    below 0. A single map (M = 1 or R = 1) is taken for all there is, a point mass, whose d(S, S') is 0.

    Raises:
        ValueError: there are no samples or raters, or their images differ in shape.
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
    """(Q, Q) values of d, of masks (Q, P)."""
    masks = masks[:, masks.any(axis=0)].astype(np.float32)  # sums of ones are exact up to 2²⁴ pixels of foreground
    intersection = (masks @ masks.T).astype(np.float64)
    size = intersection.diagonal()
    union = size[:, None] + size - intersection
    return 1 - np.divide(intersection, union, out=np.ones_like(union), where=union > 0)


def _within(distances: np.ndarray, unbiased: bool) -> float:
    """Mean distance among maps of one source, whose diagonal is 0."""
    n = len(distances)
    return float(distances.sum() / (n * max(n - 1, 1) if unbiased else n * n))
