"""Fréchet distance of two sets of features under a Gaussian assumption (Heusel et al. 2017, eq. 6).

    d = |μ − ν|² + tr Σ + tr Γ − 2 tr (Σ Γ)^½

With Σ = A Aᵀ and Γ = B Bᵀ for centred features, the last trace is the sum of the singular values of Aᵀ B, a matrix over
samples instead of features. This avoids the root of a singular matrix if there are fewer samples than features. For few
samples the distance is biased upwards: compare sets of equal size only.
"""

from __future__ import annotations

import numpy as np


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Fréchet distance of features (N, D) and (M, D).

    Raises:
        ValueError: A set has fewer than two samples, or the numbers of features differ.
    """
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1] or min(len(one), len(other)) < 2:
        raise ValueError(f"Got features of shapes {one.shape} and {other.shape}; expected (N, D) and (M, D), N, M > 1.")
    centred = [(of - of.mean(axis=0, dtype=np.float64)) / np.sqrt(len(of) - 1) for of in (one, other)]
    traces = sum(np.square(of).sum() for of in centred)
    apart = np.square(one.mean(axis=0, dtype=np.float64) - other.mean(axis=0, dtype=np.float64)).sum()
    return float(apart + traces - 2 * np.linalg.norm(centred[0] @ centred[1].T, "nuc"))
