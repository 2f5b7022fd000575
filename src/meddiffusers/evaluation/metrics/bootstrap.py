"""95 % intervals by the percentile bootstrap over subjects.

Slices of one subject are correlated, so subjects are resampled with replacement, each with all its slices. The interval
spans the percentiles 2.5 and 97.5 of the statistic over `RESAMPLES` resamples (Efron and Tibshirani, An Introduction to
the Bootstrap, 1993, ch. 13). For a single subject it has no width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 2000
INTERVAL = (2.5, 97.5)
OVER_SUBJECTS = "95 % bootstrap over subjects"  # the `spread` of a metric


def bootstrap_mean_interval(values: np.ndarray, subjects: Sequence[str], seed: int) -> tuple[float, float]:
    """Interval of a mean.

    Args:
        values: (N,); NaN are skipped.
        subjects: N names, the subject of each value.
        seed: Seed of the resampling.

    Returns:
        Lower and upper end; NaN if all values are.

    Raises:
        ValueError: Values and subjects differ in number, or there are none.
    """
    member, resamples = _resample(len(values), subjects, seed)
    known = ~np.isnan(values)
    sums, counts = (np.bincount(member, weights) for weights in (np.where(known, values, 0), known))
    total, n = sums[resamples].sum(axis=1), counts[resamples].sum(axis=1)
    return _interval(total[n > 0] / n[n > 0])


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float], subjects: Sequence[str], seed: int
) -> tuple[float, float]:
    """Interval of any statistic.

    Args:
        statistic: A function of resampled row indices (M,); the rows of a subject that is resampled twice occur twice.
            Resamples with a statistic of NaN are skipped.
        subjects: N names, the subject of each row.
        seed: Seed of the resampling.

    Returns:
        Lower and upper end; NaN if all resamples are.

    Raises:
        ValueError: There are no rows.
    """
    member, resamples = _resample(len(subjects), subjects, seed)
    rows = [np.flatnonzero(member == i) for i in range(resamples.shape[1])]
    values = np.array([statistic(np.concatenate([rows[i] for i in resample])) for resample in resamples])
    return _interval(values[~np.isnan(values)])


def _resample(n: int, subjects: Sequence[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The index of each row's subject, (N,), and the resampled subjects, (RESAMPLES, S)."""
    if n == 0 or n != len(subjects):
        raise ValueError(f"Got {n} values and {len(subjects)} subjects; expected one or more, a subject for each.")
    names, member = np.unique(subjects, return_inverse=True)
    return member, np.random.default_rng(seed).integers(len(names), size=(RESAMPLES, len(names)))


def _interval(values: np.ndarray) -> tuple[float, float]:
    if not len(values):
        return np.nan, np.nan
    low, high = np.percentile(values, INTERVAL)
    return float(low), float(high)
