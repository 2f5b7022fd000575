"""Covariates of synthetic subjects: margins and rank correlations of the table, each a function of its number."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import ks_2samp, spearmanr

from meddiffusers.generation.covariates import JointDistribution, TableRows

N = 2000


def table(seed: int = 0) -> list[dict[str, object]]:
    """Ages, ventricles that grow with them beyond proportion, and brains whose size depends on the sex."""
    rng = np.random.default_rng(seed)
    ages = rng.gamma(9, 5, N) + 20
    male = rng.random(N) < 0.4
    ventricles = np.exp(0.03 * ages + 0.3 * rng.normal(size=N))
    brains = 1100 + 120 * male + 60 * rng.normal(size=N)
    return [
        {"age": float(a), "sex": "M" if m else "F", "ventricles": float(v), "brain": float(b)}
        for a, m, v, b in zip(ages, male, ventricles, brains, strict=True)
    ]


@pytest.mark.slow
def test_margins_and_ranks_are_those_of_the_table() -> None:
    rows = table()
    names = ["age", "sex", "ventricles", "brain"]
    source = JointDistribution.fit(rows, names)
    samples = [source.sample(7, index) for index in range(N)]
    for name in ("age", "ventricles", "brain"):
        one, other = ([float(row[name]) for row in each] for each in (rows, samples))  # type: ignore[arg-type]
        assert ks_2samp(one, other).pvalue > 0.01
        assert min(one) <= min(other) and max(other) <= max(one)
    assert np.mean([row["sex"] == "M" for row in samples]) == pytest.approx(0.4, abs=0.04)
    for one, other in (("age", "ventricles"), ("age", "brain")):
        expected, sampled = (spearmanr([r[one] for r in each], [r[other] for r in each])[0] for each in (rows, samples))
        assert sampled == pytest.approx(expected, abs=0.06)
    by_sex = [np.mean([row["brain"] for row in samples if row["sex"] == sex]) for sex in "FM"]
    assert by_sex[1] - by_sex[0] > 60  # 120 in the table; the midpoint score of a category weakens it


def test_each_is_a_function_of_seed_and_number() -> None:
    source = JointDistribution.fit(table(), ["age", "sex"])
    assert source.sample(1, 5) == source.sample(1, 5)
    assert source.sample(1, 5) != source.sample(1, 6) and source.sample(1, 5) != source.sample(2, 5)
    assert json.loads(json.dumps(source.describe()))["margins"]["sex"].keys() == {"F", "M"}


def test_rows_of_a_table_follow_each_other() -> None:
    source = TableRows([{"age": 30, "sex": None}, {"age": 40, "sex": "M"}])
    assert [source.sample(0, index) for index in range(3)] == [{"age": 30}, {"age": 40, "sex": "M"}, {"age": 30}]
    with pytest.raises(ValueError, match="has no rows"):
        TableRows([])


def test_too_few_complete_rows_are_refused() -> None:
    rows = [*({"age": 30.0, "sex": None} for _ in range(50)), {"age": float("nan"), "sex": "F"}]
    with pytest.raises(ValueError, match="0 of 51 rows have values for all of age, sex; expected 10 or more"):
        JointDistribution.fit(rows, ["age", "sex"])
