"""Attribute measurements that configurations and the command line select by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from meddiffusers.datasets.digit_attributes import DIGIT_ATTRIBUTES, measure_digits
from meddiffusers.datasets.short_axis.attributes import SHORT_AXIS_ATTRIBUTES, measure_short_axis
from meddiffusers.pipelines.meddiffusers_cardiac_attributes_v1 import CARDIAC_ATTRIBUTES, measure_cardiac_attributes


@dataclass(frozen=True)
class Measure:
    """A measurement of image attributes.

    Attributes:
        function: maps images (B, H, W) to attributes (B, A).
        units: unit of each of the A attributes by name, in order.
    """

    function: Callable[[np.ndarray], np.ndarray]
    units: Mapping[str, str]


MEASURES = ("digits", "cardiac", "short_axis")


def get_measure(name: str, spacing: float = 1.0) -> Measure:
    """Get a measurement by name.

    Args:
        name: one of `MEASURES`.
        spacing: edge length of a pixel in mm, for measurements in mm.

    Raises:
        ValueError: an unknown name.
    """
    if name not in MEASURES:
        raise ValueError(f"measure={name!r} is unknown. Expected one of {', '.join(MEASURES)}.")
    if name == "cardiac":
        return Measure(partial(measure_cardiac_attributes, spacing=spacing), CARDIAC_ATTRIBUTES)
    if name == "short_axis":
        return Measure(partial(measure_short_axis, spacing=spacing), SHORT_AXIS_ATTRIBUTES)
    return Measure(measure_digits, DIGIT_ATTRIBUTES)
