"""The attribute measurements known by name: what a configuration or the command line may ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from meddiffusers.data.digit_attributes import DIGIT_ATTRIBUTES, measure_digits


@dataclass(frozen=True)
class Measure:
    """`function` maps images (N, H, W) to attributes (N, A); `units` names them, in order."""

    function: Callable[[np.ndarray], np.ndarray]
    units: Mapping[str, str]


MEASURES = {"digits": Measure(measure_digits, DIGIT_ATTRIBUTES)}
