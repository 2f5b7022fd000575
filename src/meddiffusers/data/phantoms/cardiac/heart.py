"""Parameters of one heart in one view, sampled from a seed.

Parameters of the patient (size, contraction, heart rate, image quality) are the same in both views; parameters of the
view (image plane, position) are sampled separately. Lengths are in mm; x points right from the image's middle, y is the
depth from the probe. Sizes follow published adult echocardiography (Lang et al., JASE 2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from meddiffusers.data.phantoms.cardiac.cycle import CardiacCycle

VIEWS = ("4CH", "2CH")
MAX_WIDTH = 3.9  # LV width over wall thickness; real hearts stay below 4.15 (Painchaud et al., 2022)
QUALITIES, _QUALITY_ODDS = ("Good", "Medium", "Poor"), (0.4, 0.4, 0.2)


class Bump(NamedTuple):
    """A relative change of 1 + size·exp(−((s − place) / extent)²) along the outline.

    Args:
        place: s from −1, the left corner of the base, over 0, the apex, to 1, the right corner.
        extent: Extent in units of s.
        size: Change at the place.
    """

    place: float
    extent: float
    size: float


@dataclass(frozen=True)
class Heart:
    """Shape and motion of one heart in one view, at end diastole unless noted otherwise.

    Args:
        ejection_fraction: Stroke volume over end-diastolic volume, in (0, 1).
        cycle: Timing of the cardiac cycle.
        length: Length of the LV from base to apex, mm.
        width: Largest width of the LV, mm.
        wall_thickness: Mean thickness of both walls, mm.
        septal: Thickness of the left wall over the mean.
        apical: Thickness of the apex over the mean.
        shortening: Relative shortening of the length at end systole.
        compaction: Relative decrease of the myocardium's area at end systole.
        orientation: Angle of the long axis to the vertical, positive to the right, degrees.
        swing: Change of the orientation at end systole, degrees.
        apex: Position (x, y) of the LV's apex, mm.
        drift: Change of this position at end systole, mm.
        bend: Lateral excursion of the long axis, mm.
        obliquity: Slope of the mitral plane relative to the long axis.
        roundness: Exponents of the left and right outline; larger is more blunt.
        taper: Narrowing towards the base.
        atrium: Length and largest width of the left atrium, mm.
        atrium_orientation: Angle of the atrium's axis to that of the ventricle, degrees.
        quality: Image quality, "Good", "Medium" or "Poor".
        wall_bumps: Relative changes of the wall thickness around places of the outline.
        cavity_bumps: Relative changes of the distance from the long axis to the LV's border around such places.
    """

    ejection_fraction: float
    cycle: CardiacCycle
    length: float
    width: float
    wall_thickness: float
    septal: float
    apical: float
    shortening: float
    compaction: float
    orientation: float
    swing: float
    apex: tuple[float, float]
    drift: tuple[float, float]
    bend: float
    obliquity: float
    roundness: tuple[float, float]
    taper: float
    atrium: tuple[float, float]
    atrium_orientation: float
    quality: str
    wall_bumps: tuple[Bump, ...] = ()
    cavity_bumps: tuple[Bump, ...] = ()


def sample_heart(
    seed: int,
    view: str,
    ejection_fraction: float | None = None,
    heart_rate: float | None = None,
    length: float | None = None,
    width: float | None = None,
    quality: str | None = None,
) -> Heart:
    """Sample the heart of a patient in a view; values that are given replace sampled ones.

    Size and shortening depend on the ejection fraction: a weak ventricle is wider and shortens less.
    """
    patient, plane = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1 + VIEWS.index(view)])
    normal, plane_normal = patient.standard_normal, plane.standard_normal
    sampled_fraction, sampled_rate = 0.30 + 0.45 * patient.beta(2.4, 2.2), float(np.clip(68 + 11 * normal(), 48, 105))
    fraction = sampled_fraction if ejection_fraction is None else ejection_fraction
    cycle = CardiacCycle(sampled_rate if heart_rate is None else heart_rate, patient.uniform(0.15, 0.32))
    long_axis = _near(normal(), 87 + 12 * (0.55 - fraction), 6) if length is None else length
    common_width = _near(normal(), 44 + 20 * (0.55 - fraction), 3)
    plane_width = (
        common_width * _near(plane_normal(), 0.97 if view == "2CH" else 1.0, 0.025) if width is None else width
    )
    thickness, shortening = _near(normal(), 10.5, 1.2), 0.27 * fraction * _near(normal(), 1, 0.12)
    sampled_quality = str(patient.choice(QUALITIES, p=_QUALITY_ODDS))
    return Heart(
        ejection_fraction=fraction,
        cycle=cycle,
        length=long_axis,
        width=plane_width,
        wall_thickness=max(thickness, plane_width / MAX_WIDTH),
        septal=_near(plane_normal(), 1.02, 0.05),
        apical=plane.uniform(0.6, 0.8),
        shortening=shortening,
        compaction=_near(plane_normal(), 0.02, 0.015),
        orientation=_near(plane_normal(), 3 if view == "4CH" else -2, 6),
        swing=_near(plane_normal(), 0, 1.5),
        apex=(_near(plane_normal(), 0, 4), _near(plane_normal(), 25, 2.5)),
        drift=(_near(plane_normal(), 0, 0.8), _near(plane_normal(), 0.5, 0.6)),
        bend=_near(plane_normal(), 0, 1.8),
        obliquity=_near(plane_normal(), -0.05 if view == "4CH" else 0.04, 0.05),
        roundness=(plane.uniform(1.9, 2.6), plane.uniform(2.0, 2.8)),
        taper=plane.uniform(0.16, 0.32),
        atrium=(_near(plane_normal(), 40, 3.5), _near(plane_normal(), 44, 3.5)),
        atrium_orientation=_near(plane_normal(), 0, 5),
        quality=sampled_quality if quality is None else quality,
    )


def _near(normal: float, mean: float, deviation: float) -> float:
    """mean + deviation·normal, at most two and a half deviations from the mean."""
    return float(mean + deviation * np.clip(normal, -2.5, 2.5))
