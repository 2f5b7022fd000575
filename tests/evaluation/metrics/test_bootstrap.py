from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap, norm

from meddiffusers.evaluation.metrics.bootstrap import bootstrap_interval, bootstrap_mean_interval


def subjects(n: int, slices: int = 1) -> list[str]:
    return [f"subject {number}" for number in range(n) for _ in range(slices)]


def test_it_is_scipys_percentile_bootstrap_where_a_subject_has_one_slice() -> None:
    values = np.random.default_rng(0).exponential(size=40)
    expected = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert bootstrap_mean_interval(values, subjects(40), seed=0) == pytest.approx(expected, rel=0.03)


def test_it_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(300):
        low, high = bootstrap_mean_interval(rng.normal(3, 2, 50), subjects(50), seed)
        hits += low < 3 < high
    assert 0.95 - 3 * np.sqrt(0.05 * 0.95 / 300) - 0.02 < hits / 300 <= 0.99  # percentiles are a little narrow at 50


def test_many_slices_of_a_subject_are_no_more_than_one() -> None:
    values = np.random.default_rng(0).normal(size=20)
    once = bootstrap_mean_interval(values, subjects(20), seed=0)
    assert bootstrap_mean_interval(values.repeat(50), subjects(20, 50), seed=0) == pytest.approx(once)
    width = np.subtract(*bootstrap_mean_interval(values.repeat(50), subjects(1000), seed=0)[::-1])
    assert width < 0.3 * np.subtract(*once[::-1])


def test_a_subject_weighs_as_much_as_it_has_slices() -> None:
    values, names = np.array([0.0, 1.0, 1.0, 1.0]), ["a", "b", "b", "b"]
    possible = {0.0, 0.75, 1.0}  # aa, ab, bb
    assert set(bootstrap_mean_interval(values, names, seed=0)) <= possible


def test_the_mean_is_the_general_one_of_a_mean() -> None:
    rng = np.random.default_rng(0)
    values = np.where(rng.random(60) < 0.2, np.nan, rng.normal(size=60))
    names = [f"subject {number}" for number in rng.integers(9, size=60)]
    expected = bootstrap_interval(lambda rows: float(np.nanmean(values[rows])), names, seed=5)
    assert bootstrap_mean_interval(values, names, seed=5) == pytest.approx(expected)


def test_it_takes_any_statistic() -> None:
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_interval(lambda rows: float(np.median(values[rows])), subjects(400), seed=0)
    half = norm.ppf(0.975) * np.sqrt(np.pi / 2 / 400)  # of the median's normal limit
    assert low < np.median(values) < high
    assert high - low == pytest.approx(2 * half, rel=0.35)


def test_nan_do_not_count() -> None:
    values = np.array([1.0, 2.0, 3.0, np.nan, np.nan])
    low, high = bootstrap_mean_interval(values, ["a", "b", "c", "a", "d"], seed=0)
    assert 1 <= low < 2 < high <= 3
    assert np.isnan(bootstrap_mean_interval(np.full(3, np.nan), subjects(3), seed=0)).all()
    assert np.isnan(bootstrap_interval(lambda rows: np.nan, subjects(3), seed=0)).all()


def test_one_subject_has_no_width() -> None:
    assert bootstrap_mean_interval(np.array([1.0, 2.0]), ["a", "a"], seed=0) == (1.5, 1.5)


def test_the_seed_decides_the_draws() -> None:
    values = np.random.default_rng(0).normal(size=30)
    one, same, other = (bootstrap_mean_interval(values, subjects(30), seed) for seed in (1, 1, 2))
    assert one == same != other


def test_other_values_are_refused() -> None:
    with pytest.raises(ValueError, match="3 values and 2 subjects; expected one or more, a subject for each"):
        bootstrap_mean_interval(np.zeros(3), ["a", "b"], seed=0)
    with pytest.raises(ValueError, match="0 values and 0 subjects"):
        bootstrap_interval(lambda rows: 0.0, [], seed=0)
