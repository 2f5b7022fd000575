"""What the AR-VAE of digits is held to, on 1,000 held-out digits and posterior means; names are those of its report."""

from __future__ import annotations

import math
from collections.abc import Mapping

from meddiffusers.datasets.digit_attributes import DIGIT_ATTRIBUTES
from meddiffusers.evaluation.results import Bar

MINUTES = 10  # of training, on two cores
BOUNDS: list[tuple[str, str, float]] = [
    ("interpretability", ">=", 0.92),
    ("SCC", ">=", 0.96),
    ("modularity, regularised dimensions", ">=", 0.975),
    ("MIG", ">=", 0.25),
    ("SAP", ">=", 0.60),
    ("pixel agreement", ">=", 0.963),
    *((f"σ of {name}'s dimension", ">=", 0.85) for name in DIGIT_ATTRIBUTES),
    *((f"σ of {name}'s dimension", "<=", 1.25) for name in DIGIT_ATTRIBUTES),
    *((f"traversal Spearman, {name}", ">=", 0.85 if name == "length" else 0.95) for name in DIGIT_ATTRIBUTES),
    ("edit error, thickness [px]", "<=", 0.35),
    ("edit error, slant [rad]", "<=", 0.08),
]


def attribute_bars(values: Mapping[str, float], of: str) -> list[Bar]:
    """All bars for one model, or the means of several; a figure that is not there does not hold."""
    return [Bar(f"{of}: {name}", values.get(name, math.nan), op, bound) for name, op, bound in BOUNDS]
