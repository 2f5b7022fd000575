"""Fréchet distance of two sets of features, as if each were normally distributed (Heusel et al. 2017, eq. 6).

    d = |μ − ν|² + tr Σ + tr Γ − 2 tr (Σ Γ)^½

With Σ = A Aᵀ and Γ = B Bᵀ, of centred features, the last trace is the sum of the singular values of Aᵀ B: a matrix of
samples, not of features, and no root of a singular matrix where there are fewer samples than features. Of few samples
the distance is too large, so it compares sets of one size only.
"""

from __future__ import annotations

import numpy as np


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Of features (N, D) and (M, D).

    Raises:
        ValueError: fewer than two samples in a set, or sets of other features.
    """
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1] or min(len(one), len(other)) < 2:
        raise ValueError(f"Got features of shapes {one.shape} and {other.shape}; expected (N, D) and (M, D), N, M > 1.")
    centred = [(of - of.mean(axis=0, dtype=np.float64)) / np.sqrt(len(of) - 1) for of in (one, other)]
    traces = sum(np.square(of).sum() for of in centred)
    apart = np.square(one.mean(axis=0, dtype=np.float64) - other.mean(axis=0, dtype=np.float64)).sum()
    return float(apart + traces - 2 * np.linalg.norm(centred[0] @ centred[1].T, "nuc"))
