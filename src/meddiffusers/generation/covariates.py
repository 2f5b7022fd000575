"""Covariates of synthetic subjects: rows of a table, or samples from a joint distribution that is fitted to a table.

The distribution is a Gaussian copula (Nelsen 2006, "An introduction to copulas", section 2.3). With F_k the marginal
distribution of column k, Φ the standard normal distribution and R the correlation matrix of the normal scores,

    z ~ N(0, R),  x_k = F_k⁻¹(Φ(z_k))

A categorical value occupies an interval of [0, 1] as long as its frequency, in alphabetical order; its score is that of
the interval's midpoint. Each sample is a function of the seed and its number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from scipy.stats import norm, rankdata

NUM_QUANTILES = 101  # of a stored numeric marginal
MIN_ROWS = 10  # complete rows that a fit needs
Row = Mapping[str, Any]


class CovariateSource(Protocol):
    """Gives the covariates of each sample."""

    def sample(self, seed: int, index: int) -> dict[str, Any]:
        """Covariates of the sample with number `index`; equal for equal arguments."""

    def describe(self) -> dict[str, Any]:
        """Description for the manifest, serializable as JSON."""


@dataclass(frozen=True)
class TableRows:
    """The rows of a table in their order, repeated if there are more samples than rows.

    Args:
        rows: covariates by name; None where a value is unknown.

    Raises:
        ValueError: there are no rows.
    """

    rows: Sequence[Row]

    def __post_init__(self) -> None:
        if not self.rows:
            raise ValueError("The table of covariates has no rows; expected at least one. Rows are repeated as needed.")

    def sample(self, seed: int, index: int) -> dict[str, Any]:
        """Row number `index`, whatever the seed, without unknown values."""
        return {name: value for name, value in self.rows[index % len(self.rows)].items() if value is not None}

    def describe(self) -> dict[str, Any]:
        """Number of rows and names of columns."""
        return {"kind": "rows of a table", "rows": len(self.rows), "columns": list(self.rows[0])}


@dataclass(frozen=True)
class JointDistribution:
    """A Gaussian copula of K covariates.

    Args:
        margins: for a number its values at evenly spaced quantiles, for a categorical value {value: frequency}.
        correlation: (K, K) matrix of the normal scores.
    """

    margins: Mapping[str, Sequence[float] | Mapping[str, float]]
    correlation: np.ndarray

    @classmethod
    def fit(cls, rows: Sequence[Row], names: Sequence[str]) -> JointDistribution:
        """Fit to the rows that are complete.

        Args:
            rows: covariates by name.
            names: columns to model.

        Raises:
            ValueError: no names, or fewer than ten complete rows.
        """
        known = [row for row in rows if all(_is_known(row.get(name)) for name in names)]
        if not names or len(known) < MIN_ROWS:
            raise ValueError(
                f"{len(known)} of {len(rows)} rows have values for all of {', '.join(names) or '(no columns)'}; "
                f"expected {MIN_ROWS} or more. Choose columns that are filled."
            )
        columns = {name: [row[name] for row in known] for name in names}
        margins = {name: _margin(values) for name, values in columns.items()}
        scores = np.stack([_scores(values, margins[name]) for name, values in columns.items()])
        return cls(margins, np.atleast_2d(np.corrcoef(scores)))

    def sample(self, seed: int, index: int) -> dict[str, Any]:
        """Covariates of the sample with number `index`."""
        normal = np.random.default_rng([seed, index]).standard_normal(len(self.correlation))
        uniform = norm.cdf(self._root @ normal)
        return {name: _quantile(margin, u) for (name, margin), u in zip(self.margins.items(), uniform, strict=True)}

    @cached_property
    def _root(self) -> np.ndarray:
        """A matrix A with A Aᵀ = R."""
        values, vectors = np.linalg.eigh(self.correlation)
        return vectors * np.sqrt(values.clip(0))

    def describe(self) -> dict[str, Any]:
        """Marginal distributions and correlations."""
        correlation = np.round(self.correlation, 3).tolist()
        return {"kind": "Gaussian copula", "margins": dict(self.margins), "correlation": correlation}


def _is_known(value: Any) -> bool:
    return value is not None and value == value  # False for NaN


def _margin(values: Sequence[Any]) -> list[float] | dict[str, float]:
    if any(isinstance(value, str) for value in values):
        names = [str(value) for value in values]
        return {name: names.count(name) / len(names) for name in sorted(set(names))}
    quantiles = np.quantile(np.asarray(values, float), np.linspace(0, 1, NUM_QUANTILES), method="hazen")
    return [float(value) for value in quantiles]


def _scores(values: Sequence[Any], margin: Sequence[float] | Mapping[str, float]) -> np.ndarray:
    """Normal scores (B,)."""
    if isinstance(margin, Mapping):
        ends = np.cumsum([0.0, *margin.values()])
        middles = dict(zip(margin, (ends[:-1] + ends[1:]) / 2, strict=True))
        return np.asarray(norm.ppf([middles[str(value)] for value in values]))
    return np.asarray(norm.ppf((rankdata(np.asarray(values, float)) - 0.5) / len(values)))


def _quantile(margin: Sequence[float] | Mapping[str, float], u: float) -> float | str:
    """The quantile of a marginal at u in [0, 1]."""
    if isinstance(margin, Mapping):
        i = int(np.searchsorted(np.cumsum([*margin.values()]), u))
        return [*margin][min(i, len(margin) - 1)]
    return float(np.interp(u, np.linspace(0, 1, len(margin)), margin))
