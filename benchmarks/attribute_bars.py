"""Bars of the AR-VAE of digits, on 1,000 held-out digits with posterior means, by the keys of its report."""

from __future__ import annotations

import math
from collections.abc import Mapping

from meddiffusers.datasets.digit_attributes import DIGIT_ATTRIBUTES
from meddiffusers.evaluation.results import Bar

MINUTES = 10  # of training on two cores
BOUNDS: list[tuple[str, str, float]] = [
    ("interpretability", ">=", 0.92),
    ("scc", ">=", 0.96),
    ("modularity_regularised", ">=", 0.975),
    ("mig", ">=", 0.25),
    ("sap", ">=", 0.60),
    ("pixel_agreement", ">=", 0.963),
    *((f"latent_sigma_{name}", ">=", 0.85) for name in DIGIT_ATTRIBUTES),
    *((f"latent_sigma_{name}", "<=", 1.25) for name in DIGIT_ATTRIBUTES),
    *((f"traversal_spearman_{name}", ">=", 0.85 if name == "length" else 0.95) for name in DIGIT_ATTRIBUTES),
    ("edit_mae_thickness", "<=", 0.35),
    ("edit_mae_slant", "<=", 0.08),
]


def attribute_bars(values: Mapping[str, float], source: str) -> list[Bar]:
    """All bars for one model, or for the means of several. A missing metric does not hold its bar."""
    return [Bar(f"{source}: {key}", values.get(key, math.nan), op, bound) for key, op, bound in BOUNDS]
