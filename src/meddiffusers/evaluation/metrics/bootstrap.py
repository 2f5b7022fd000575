"""95 % intervals by the percentile bootstrap over subjects.

Slices of one subject are alike, so it is subjects that are drawn with replacement, as many as there are, and each
brings all its slices. The interval spans the percentiles 2.5 and 97.5 of the statistic over `RESAMPLES` such draws
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13). Of one subject it has no width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 2000
INTERVAL = (2.5, 97.5)
OVER_SUBJECTS = "95 % bootstrap over subjects"  # as a metric's `spread` names it


def bootstrap_mean_interval(values: np.ndarray, subjects: Sequence[str], seed: int) -> tuple[float, float]:
    """Of the mean of values (N,), which belong to N subjects, named once for each value. NaN do not count.

    Raises:
        ValueError: values and subjects differ in number, or there are none.
    """
    member, draws = _drawn(len(values), subjects, seed)
    known = ~np.isnan(values)
    sums, counts = (np.bincount(member, of) for of in (np.where(known, values, 0), known))
    drawn, number = sums[draws].sum(axis=1), counts[draws].sum(axis=1)
    return _interval(drawn[number > 0] / number[number > 0])


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float], subjects: Sequence[str], seed: int
) -> tuple[float, float]:
    """Of any statistic, a function of the row numbers that were drawn (M,): those of a subject drawn twice come twice.

    `subjects` (N,) names the subject of each row. Draws whose statistic is NaN do not count.

    Raises:
        ValueError: there are no rows.
    """
    member, draws = _drawn(len(subjects), subjects, seed)
    rows = [np.flatnonzero(member == number) for number in range(draws.shape[1])]
    values = np.array([statistic(np.concatenate([rows[number] for number in draw])) for draw in draws])
    return _interval(values[~np.isnan(values)])


def _drawn(number: int, subjects: Sequence[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The number of each row's subject (N,), and the subjects drawn (RESAMPLES, S)."""
    if number == 0 or number != len(subjects):
        raise ValueError(f"Got {number} values of {len(subjects)} subjects; expected one or more, a subject for each.")
    names, member = np.unique(subjects, return_inverse=True)
    return member, np.random.default_rng(seed).integers(len(names), size=(RESAMPLES, len(names)))


def _interval(values: np.ndarray) -> tuple[float, float]:
    if not len(values):
        return np.nan, np.nan
    low, high = np.percentile(values, INTERVAL)
    return float(low), float(high)
