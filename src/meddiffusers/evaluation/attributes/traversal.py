"""Does a latent dimension move the attribute it stands for, and that one alone?

Each regularised dimension in turn is swept over mean ± span · σ, both taken over the given latents, with every other
dimension of a latent as it was; the decoded images are measured anew.
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
    """What sweeping the first R dimensions does to the A attributes, which dimension r standing for attribute r.

    spearman (R,): Spearman correlation of step and attribute r along the sweep of dimension r, mean over the images;
    0 for an image whose attribute does not move.
    leakage (R, A): change of attribute a from the first to the last step of dimension r's sweep, mean over the images,
    in σ of attribute a over the images decoded without a sweep. Its diagonal is the change that was wanted.
    """

    spearman: np.ndarray
    leakage: np.ndarray


def traverse_dimensions(
    decode: Decode, means: np.ndarray, measure: Measure, dims: int, steps: int = 9, span: float = 2.0
) -> Traversal:
    """Sweep the first `dims` dimensions of the posterior means (N, K).

    `decode` maps latents (M, K) to images (M, H, W) in [0, 1], `measure` those to attributes (M, A), NaN where an image
    has none; a NaN is left out of the means. Raises ValueError for means or dims that leave nothing to sweep.
    """
    _check(means, dims)
    spread = np.nanstd(measure(decode(means)), axis=0)
    position = np.linspace(-span, span, steps)
    spearman, leakage = [], []
    for r in range(dims):
        attributes = measure(decode(_sweep(means, r, position))).reshape(len(means), steps, -1)
        spearman.append(np.nanmean([_follows(position, values) for values in attributes[:, :, r]]))
        leakage.append(np.nanmean(attributes[:, -1] - attributes[:, 0], axis=0) / spread)
    return Traversal(np.array(spearman), np.array(leakage))


def _sweep(means: np.ndarray, r: int, position: np.ndarray) -> np.ndarray:
    """(N · steps, K), the steps of one latent after another."""
    latents = np.repeat(means[:, None], len(position), axis=1)
    latents[:, :, r] = means[:, r].mean() + position * means[:, r].std()
    return latents.reshape(-1, means.shape[1])


def _follows(position: np.ndarray, values: np.ndarray) -> float:
    known = np.isfinite(values)
    if known.sum() < 3:
        return np.nan
    if np.ptp(values[known]) == 0:
        return 0.0
    return spearmanr(position[known], values[known]).statistic


def _check(means: np.ndarray, dims: int) -> None:
    if means.ndim != 2 or len(means) < 2 or not np.isfinite(means).all():
        raise ValueError(
            f"traverse_dimensions got means of shape {means.shape}, expected finite (N, K) of at least 2 images, whose "
            "spread sets the sweep: encode more images"
        )
    if not 1 <= dims <= means.shape[1]:
        raise ValueError(
            f"traverse_dimensions got dims={dims} for latents of {means.shape[1]} dimensions, expected 1 to "
            f"{means.shape[1]}: pass the number of regularised dimensions"
        )
