"""What is particular to one heart in one view, drawn from a seed.

The patient's share (how large, how strong, how fast) is the same in both views; the view's share (how the plane cuts
the wall, how the heart lies in the image) is drawn apart. Lengths in mm; x to the right of the image's middle, y in
depth from the probe. Sizes follow published adult echocardiography (Lang et al., JASE 2015).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from meddiffusers.data.phantoms.cardiac.cycle import Cycle

VIEWS = ("4CH", "2CH")
WIDEST = 3.9  # greatest cavity width in wall thicknesses; masks of real hearts stay below 4.15 (Painchaud et al., 2022)
QUALITIES, _QUALITY_ODDS = ("Good", "Medium", "Poor"), (0.4, 0.4, 0.2)


@dataclass(frozen=True)
class Heart:
    """At end diastole unless it says otherwise.

    ejection_fraction: stroke volume over the largest volume, in (0, 1)
    length, width: of the cavity, base to apex and at its widest, mm
    wall: mean thickness of both walls, mm; septal: the left one's over that; apical: the apex's over that
    shortening: of the length at end systole, fraction; compaction: of the wall's area at end systole, fraction
    orientation, swing: lean of the long axis to the right, degrees, and what end systole adds
    apex, drift: where the cavity's apex is, mm, and what end systole adds
    bend: sideways excursion of the axis, mm; obliquity: slope of the mitral plane to the axis
    roundness: exponents of the left and right wall's outline, larger is more blunt; taper: narrowing towards the base
    atrium: length and greatest width of the left atrium, mm; atrium_lean: its axis to the ventricle's, degrees
    quality: of the image, "Good", "Medium" or "Poor"
    """

    ejection_fraction: float
    cycle: Cycle
    length: float
    width: float
    wall: float
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
    atrium_lean: float
    quality: str


def draw_heart(
    seed: int,
    view: str,
    ejection_fraction: float | None = None,
    heart_rate: float | None = None,
    length: float | None = None,
    width: float | None = None,
    quality: str | None = None,
) -> Heart:
    """The heart of that patient in that view, with the given values where there are some.

    A given ejection fraction takes part in what depends on it: a weak ventricle is wider and shortens less.
    """
    patient, plane = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1 + VIEWS.index(view)])
    normal, lie = patient.standard_normal, plane.standard_normal
    drawn_fraction, drawn_rate = 0.30 + 0.45 * patient.beta(2.4, 2.2), float(np.clip(68 + 11 * normal(), 48, 105))
    fraction = drawn_fraction if ejection_fraction is None else ejection_fraction
    cycle = Cycle(drawn_rate if heart_rate is None else heart_rate, patient.uniform(0.15, 0.32))
    long_axis = _near(normal(), 87 + 12 * (0.55 - fraction), 6) if length is None else length
    common_width = _near(normal(), 44 + 20 * (0.55 - fraction), 3)
    plane_width = common_width * _near(lie(), 0.97 if view == "2CH" else 1.0, 0.025) if width is None else width
    wall, shortening = _near(normal(), 10.5, 1.2), 0.27 * fraction * _near(normal(), 1, 0.12)
    drawn_quality = str(patient.choice(QUALITIES, p=_QUALITY_ODDS))
    return Heart(
        ejection_fraction=fraction,
        cycle=cycle,
        length=long_axis,
        width=plane_width,
        wall=max(wall, plane_width / WIDEST),
        septal=_near(lie(), 1.02, 0.05),
        apical=plane.uniform(0.6, 0.8),
        shortening=shortening,
        compaction=_near(lie(), 0.02, 0.015),
        orientation=_near(lie(), 3 if view == "4CH" else -2, 6),
        swing=_near(lie(), 0, 1.5),
        apex=(_near(lie(), 0, 4), _near(lie(), 25, 2.5)),
        drift=(_near(lie(), 0, 0.8), _near(lie(), 0.5, 0.6)),
        bend=_near(lie(), 0, 1.8),
        obliquity=_near(lie(), -0.05 if view == "4CH" else 0.04, 0.05),
        roundness=(plane.uniform(1.9, 2.6), plane.uniform(2.0, 2.8)),
        taper=plane.uniform(0.16, 0.32),
        atrium=(_near(lie(), 40, 3.5), _near(lie(), 44, 3.5)),
        atrium_lean=_near(lie(), 0, 5),
        quality=drawn_quality if quality is None else quality,
    )


def _near(normal: float, mean: float, deviation: float) -> float:
    """mean + deviation·normal, never more than two and a half deviations away."""
    return float(mean + deviation * np.clip(normal, -2.5, 2.5))
