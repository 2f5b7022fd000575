"""Distances between pixels, and between frames in time, of DICOM images that declare them in one of several ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from meddiffusers.data.io.dicom_values import number, numbers
from meddiffusers.data.io.library_errors import UnreadableError

CENTIMETRES, TWO_DIMENSIONAL = 3, 1  # codes of ultrasound regions
UNEVEN = 0.05  # of the mean time between frames, beyond which a note says so

Edges = tuple[float, float]


def pixel_spacing(places: Sequence[Any], source: str) -> tuple[Edges | None, str]:
    """Distances in mm between rows and between columns, None if unknown; and a note.

    Args:
        places: data sets or functional groups, the most specific first.
        source: for messages.
    """
    for name, note in (
        ("PixelSpacing", ""),
        ("ImagerPixelSpacing", "no PixelSpacing: lengths are those at the detector, larger than in the patient"),
        ("NominalScannedPixelSpacing", ""),
    ):
        for place in places:
            if edges := numbers(place, name, 2, source):
                return (edges[0], edges[1]), note
    scales = {scale for place in places for scale in _ultrasound_scales(place)}
    if len(scales) == 1:
        return scales.pop(), ""
    if scales:
        return None, f"{len(scales)} ultrasound regions with different scales: pixels are taken as 1 mm wide"
    return None, "no PixelSpacing: pixels are taken as 1 mm wide"


def pixel_aspect(places: Sequence[Any], source: str) -> Edges:
    """Height and width of a pixel that is 1 wide; UnreadableError for sides that are not positive."""
    sides = next((found for place in places if (found := numbers(place, "PixelAspectRatio", 2, source))), [1.0, 1.0])
    if min(sides) <= 0:
        raise UnreadableError(
            source, f"PixelAspectRatio of {sides[0]:g}, {sides[1]:g}", "positive numbers", "correct it"
        )
    return sides[0] / sides[1], 1.0


def seconds_between(dataset: Any, frames: int, source: str) -> tuple[float, str]:
    """Seconds between the frames of a moving image, 0 if unknown; and a note if they vary."""
    if (step := number(dataset, "FrameTime", 0.0, source)) > 0:
        return step / 1000, ""
    if "FrameTimeVector" in dataset:
        steps = np.array(numbers(dataset, "FrameTimeVector", frames, source) or [0.0])[
            1:
        ]  # the first has none before it
        if steps.size and steps.min() > 0:
            mean = float(steps.mean())
            uneven = np.ptp(steps) > UNEVEN * mean
            return mean / 1000, f"frames {steps.min():g} to {steps.max():g} ms apart: taken as {mean:g} ms" * bool(
                uneven
            )
    rate = number(dataset, "CineRate", 0.0, source) or number(dataset, "RecommendedDisplayFrameRate", 0.0, source)
    return (1 / rate, "") if rate > 0 else (0.0, "no FrameTime: the time between frames is unknown")


def _ultrasound_scales(place: Any) -> list[Edges]:
    """Distances in mm between rows and columns of each two-dimensional region of an ultrasound image."""
    scales = []
    for region in place.get("SequenceOfUltrasoundRegions") or ():
        units = {region.get(f"PhysicalUnits{axis}Direction") for axis in "XY"}
        plane = region.get("RegionSpatialFormat", TWO_DIMENSIONAL) == TWO_DIMENSIONAL
        edges = [10 * abs(float(region.get(f"PhysicalDelta{axis}") or 0)) for axis in "YX"]
        if plane and units == {CENTIMETRES} and all(0 < edge < np.inf for edge in edges):
            scales.append((round(edges[0], 9), round(edges[1], 9)))
    return scales
