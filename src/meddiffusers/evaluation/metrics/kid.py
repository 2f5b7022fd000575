"""Kernel inception distance (KID) between two sets of features: the squared maximum mean discrepancy.

    MMD² = mean k(x, x') over pairs of x + mean k(y, y') over pairs of y - 2 mean k(x, y),   k(x, y) = (x·y/d + 1)³

x, y    features (N, d) of real and of generated images
pairs   of two different images, so that the estimate is unbiased: for equal distributions its mean is 0 for every N,
        and single estimates are often negative

Bińkowski et al., Demystifying MMD GANs, ICLR 2018. Published values are means over random subsets of 1,000 images; here
all pairs are used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class KID:
    """KID of all samples with its 95 % interval, and the interval of real images against real images.

    Args:
        value: The unbiased estimate from `real` and `generated` samples.
        low: Lower end of the interval over random halves of both sets (delete-half jackknife). Images are taken as
            independent, so slices of one subject make the interval too narrow.
        high: Upper end of that interval.
        real_low: Lower end of the interval for `half` real samples against `half` other real samples.
        real_high: Upper end of that interval. A value within it is no detectable difference.
        real: Number of real samples.
        generated: Number of generated samples.
        half: Number of samples in a half.
    """

    value: float
    low: float
    high: float
    real_low: float
    real_high: float
    real: int
    generated: int
    half: int

    def __str__(self) -> str:
        return (
            f"KID {self.value:.4g} (95 %: {self.low:.4g} to {self.high:.4g}), {self.generated} against {self.real} "
            f"real; real against real, {self.half} each: {self.real_low:.4g} to {self.real_high:.4g}"
        )


def squared_mmd(x: ArrayLike, y: ArrayLike) -> float:
    """Unbiased estimate of MMD² from features (N, d) and (M, d).

    Raises:
        ValueError: Other shapes, fewer than two samples in a set, or values that are not finite.
    """
    x, y = _checked(x, y, least=2)
    return float(_mmd(_kernel(x, y), np.eye(2, dtype=bool).repeat((len(x), len(y)), axis=1)[:, None])[0])


def kid_score(real: ArrayLike, generated: ArrayLike, subsets: int = 200, seed: int = 0) -> KID:
    """KID of two sets of features with its intervals.

    Args:
        real: Features (N, d) of real images.
        generated: Features (M, d) of generated images.
        subsets: Number of random halves for the intervals.
        seed: Seed of the random halves.

    Raises:
        ValueError: As `squared_mmd`, or fewer than four samples in a set.
    """
    real, generated = _checked(real, generated, least=4)
    kernel, half = _kernel(real, generated), min(len(real), len(generated)) // 2
    rng = np.random.default_rng(seed)
    chosen = np.zeros((3, subsets, len(kernel)), dtype=bool)  # half of the real, half of the others, of the generated
    for first, second, third in zip(*chosen, strict=True):
        order = rng.permutation(len(real))
        first[order[:half]] = second[order[half : 2 * half]] = True
        third[len(real) + rng.permutation(len(generated))[:half]] = True
    low, high = np.percentile(_mmd(kernel, chosen[[0, 2]]), INTERVAL)
    real_low, real_high = np.percentile(_mmd(kernel, chosen[[0, 1]]), INTERVAL)
    return KID(
        squared_mmd(real, generated), float(low), float(high), float(real_low), float(real_high),
        len(real), len(generated), half,
    )  # fmt: skip


def _checked(real: ArrayLike, generated: ArrayLike, least: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(real, dtype=np.float64), np.asarray(generated, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < least:
        raise ValueError(
            f"Got features of shapes {x.shape} and {y.shape}; expected (N, d) and (M, d), {least} or more."
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("Got features that are NaN or infinite; expected finite ones: check the images.")
    return x, y


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kernel of all pairs of the samples x and y together; 0 on the diagonal, so that sums exclude it."""
    samples = np.concatenate([x, y])
    kernel = (samples @ samples.T / samples.shape[1] + 1) ** 3
    np.fill_diagonal(kernel, 0)
    return kernel


def _mmd(kernel: np.ndarray, members: np.ndarray) -> np.ndarray:
    """(S,) estimates for S pairs of disjoint subsets, given as boolean members (2, S, samples)."""
    x, y = members.astype(np.float64)
    n, m = x.sum(axis=1), y.sum(axis=1)
    from_x, from_y = x @ kernel, y @ kernel
    within = (from_x * x).sum(axis=1) / (n * (n - 1)) + (from_y * y).sum(axis=1) / (m * (m - 1))
    return within - 2 * (from_x * y).sum(axis=1) / (n * m)
