"""Latent traversals: does a latent dimension change its own attribute, and only that one?

Each regularised dimension is swept over mean ± span · σ of the given latents while all other dimensions stay fixed. The
attributes are measured on the decoded images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

Decode = Callable[[np.ndarray], np.ndarray]
Measure = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Traversal:
    """Effect of sweeping the first R dimensions on A attributes; dimension r is regularised to attribute r.

    Args:
        spearman: (R,) Spearman correlation between step and attribute r along the sweep of dimension r, mean over the
            images; 0 for an image whose attribute does not change.
        leakage: (R, A) change of attribute a from the first to the last step of dimension r, mean over the images, in
            σ of attribute a over the images decoded without a sweep. The diagonal is the intended change.
    """

    spearman: np.ndarray
    leakage: np.ndarray


def traverse_dimensions(
    decode: Decode, means: np.ndarray, measure: Measure, dims: int, steps: int = 9, span: float = 2.0
) -> Traversal:
    """Sweep the first `dims` dimensions of posterior means.

    Args:
        decode: Maps latents (B, K) to images (B, H, W) in [0, 1].
        means: Posterior means (B, K).
        measure: Maps images (B, H, W) to attributes (B, A), NaN where an attribute is not defined; means skip NaN.
        dims: Number of regularised dimensions, R.
        steps: Steps of each sweep.
        span: Half of the sweep's range, in σ.

    Returns:
        Correlation and leakage.

    Raises:
        ValueError: There are fewer than two latents or no dimension to sweep.
    """
    _check(means, dims)
    spread = np.nanstd(measure(decode(means)), axis=0)
    position = np.linspace(-span, span, steps)
    spearman, leakage = [], []
    for r in range(dims):
        attributes = measure(decode(_sweep(means, r, position))).reshape(len(means), steps, -1)
        spearman.append(np.nanmean([_correlation(position, values) for values in attributes[:, :, r]]))
        leakage.append(np.nanmean(attributes[:, -1] - attributes[:, 0], axis=0) / spread)
    return Traversal(np.array(spearman), np.array(leakage))


def _sweep(means: np.ndarray, r: int, position: np.ndarray) -> np.ndarray:
    """(B · steps, K): all steps of the first latent, then of the second, and so on."""
    latents = np.repeat(means[:, None], len(position), axis=1)
    latents[:, :, r] = means[:, r].mean() + position * means[:, r].std()
    return latents.reshape(-1, means.shape[1])


def _correlation(position: np.ndarray, values: np.ndarray) -> float:
    known = np.isfinite(values)
    if known.sum() < 3:
        return np.nan
    if np.ptp(values[known]) == 0:
        return 0.0
    return spearmanr(position[known], values[known]).statistic


def _check(means: np.ndarray, dims: int) -> None:
    if means.ndim != 2 or len(means) < 2 or not np.isfinite(means).all():
        raise ValueError(
            f"traverse_dimensions got means of shape {means.shape}, expected finite (B, K) of at least 2 images, "
            "whose spread sets the range of the sweep: encode more images"
        )
    if not 1 <= dims <= means.shape[1]:
        raise ValueError(
            f"traverse_dimensions got dims={dims} for latents of {means.shape[1]} dimensions, expected 1 to "
            f"{means.shape[1]}: pass the number of regularised dimensions"
        )
