"""Covariates of people who do not exist, each a function of a seed and a number: of a table, or a joint distribution.

The distribution is a Gaussian copula: margins as they are in a table, and correlations of normal scores (Nelsen 2006,
"An introduction to copulas", section 2.3). With F_k the margin of column k, Φ that of the normal distribution and R the
correlations,

    z ~ N(0, R),  x_k = F_k⁻¹(Φ(z_k))

A word's score is that of the middle of its part of the unit interval, words in the order of the alphabet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from scipy.stats import norm, rankdata

QUANTILES = 101  # at which the margin of a number is kept
ENOUGH = 10  # rows that say all, at least
Row = Mapping[str, Any]


class CovariateSource(Protocol):
    """What says who is drawn."""

    def draw(self, seed: int, index: int) -> dict[str, Any]:
        """Covariates of number `index`, the same each time."""

    def describe(self) -> dict[str, Any]:
        """What a card says of it, as JSON."""


@dataclass(frozen=True)
class TableRows:
    """The rows of a table one after the other, from the first again at its end."""

    rows: Sequence[Row]

    def __post_init__(self) -> None:
        if not self.rows:
            raise ValueError("The table of covariates has no rows; expected one for each volume, or some to repeat.")

    def draw(self, seed: int, index: int) -> dict[str, Any]:
        """The row of that number; the seed makes no difference."""
        return {name: value for name, value in self.rows[index % len(self.rows)].items() if value is not None}

    def describe(self) -> dict[str, Any]:
        """How many rows of which columns."""
        return {"kind": "rows of a table", "rows": len(self.rows), "columns": list(self.rows[0])}


@dataclass(frozen=True)
class JointDistribution:
    """A Gaussian copula.

    margins: of a number its values at even quantiles, of a word {word: part}; correlation: (K, K) of normal scores.
    """

    margins: Mapping[str, Sequence[float] | Mapping[str, float]]
    correlation: np.ndarray

    @classmethod
    def fit(cls, rows: Sequence[Row], names: Sequence[str]) -> JointDistribution:
        """Of the rows that say all of `names`.

        Raises:
            ValueError: names that no row has, or too few rows that say all.
        """
        known = [row for row in rows if all(_is_known(row.get(name)) for name in names)]
        if not names or len(known) < ENOUGH:
            raise ValueError(
                f"{len(known)} of {len(rows)} rows say all of {', '.join(names) or '(nothing)'}; expected {ENOUGH} or "
                "more. Name the columns that are filled."
            )
        columns = {name: [row[name] for row in known] for name in names}
        margins = {name: _margin(values) for name, values in columns.items()}
        scores = np.stack([_scores(values, margins[name]) for name, values in columns.items()])
        return cls(margins, np.atleast_2d(np.corrcoef(scores)))

    def draw(self, seed: int, index: int) -> dict[str, Any]:
        """Covariates of number `index`."""
        normal = np.random.default_rng([seed, index]).standard_normal(len(self.correlation))
        uniform = norm.cdf(self._root @ normal)
        return {name: _at(margin, part) for (name, margin), part in zip(self.margins.items(), uniform, strict=True)}

    @cached_property
    def _root(self) -> np.ndarray:
        """A with A Aᵀ = R."""
        values, vectors = np.linalg.eigh(self.correlation)
        return vectors * np.sqrt(values.clip(0))

    def describe(self) -> dict[str, Any]:
        """Margins and correlations."""
        correlation = np.round(self.correlation, 3).tolist()
        return {"kind": "Gaussian copula", "margins": dict(self.margins), "correlation": correlation}


def _is_known(value: Any) -> bool:
    return value is not None and value == value  # which NaN is not


def _margin(values: Sequence[Any]) -> list[float] | dict[str, float]:
    if any(isinstance(value, str) for value in values):
        words = [str(value) for value in values]
        return {word: words.count(word) / len(words) for word in sorted(set(words))}
    found = np.quantile(np.asarray(values, float), np.linspace(0, 1, QUANTILES), method="hazen")
    return [float(value) for value in found]


def _scores(values: Sequence[Any], margin: Any) -> np.ndarray:
    """Normal scores (N,)."""
    if isinstance(margin, Mapping):
        ends = np.cumsum([0.0, *margin.values()])
        middles = dict(zip(margin, (ends[:-1] + ends[1:]) / 2, strict=True))
        return np.asarray(norm.ppf([middles[str(value)] for value in values]))
    return np.asarray(norm.ppf((rankdata(np.asarray(values, float)) - 0.5) / len(values)))


def _at(margin: Any, part: float) -> Any:
    """The value below which that part of the margin lies."""
    if isinstance(margin, Mapping):
        place = int(np.searchsorted(np.cumsum([*margin.values()]), part))
        return [*margin][min(place, len(margin) - 1)]
    return float(np.interp(part, np.linspace(0, 1, len(margin)), margin))
