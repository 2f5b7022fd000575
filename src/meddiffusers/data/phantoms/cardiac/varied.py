"""Hearts as varied as those of patients: small and dilated, thin and hypertrophied, scarred, tilted, off-centre.

Ranges cover published adult echocardiography from small women to severe disease: diameters of 25 to 75 mm and walls of
4 to 18 mm (Lang et al., JASE 2015: normal are 38 to 58 mm and 6 to 10 mm, severely abnormal from 69 and 17 mm on),
ejection fractions of 10 to 75 %. Of three hearts, one has a septal bulge, a scar or an aneurysm.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from meddiffusers.data.phantoms.cardiac.heart import VIEWS, Bump, Heart, sample_heart

LENGTH, WIDTH, WALL, FRACTION, TILT = (55, 115), (25, 75), (4, 18), (0.10, 0.75), 60
SIDE = 180.0  # mm, edge length of an image that shows every heart
OFF_CENTRE = 8.0  # mm, standard deviation of the heart's place in the image
LEAST_LUMEN = 5.0  # mm, width of the LV at end systole


def sample_varied_heart(seed: int, view: str) -> Heart:
    """Sample the heart of a patient in a view."""
    patient, plane = np.random.default_rng([seed, 3]), np.random.default_rng([seed, 4 + VIEWS.index(view)])
    fraction = float(patient.uniform(*FRACTION))
    width, length = patient.uniform(*WIDTH), patient.uniform(*LENGTH)
    length = float(np.clip(length, 1.25 * width, LENGTH[1]))  # no ventricle is a ball
    fraction = min(fraction, 1 - (LEAST_LUMEN / width) ** 2)
    heart = sample_heart(seed, view, ejection_fraction=fraction)
    tilt = float(np.clip(plane.normal(0, 20), -TILT, TILT))
    middle = plane.normal((0, SIDE / 2), OFF_CENTRE)
    middle = np.clip(middle, (-2 * OFF_CENTRE, SIDE / 2 - 2 * OFF_CENTRE), (2 * OFF_CENTRE, SIDE / 2 + 2 * OFF_CENTRE))
    up = np.array([np.sin(np.deg2rad(tilt)), -np.cos(np.deg2rad(tilt))])
    x, y = middle + up * length / 2
    wall_bumps, cavity_bumps = _disease(patient)
    return replace(
        heart,
        length=length,
        width=float(width * plane.uniform(0.94, 1.0)),
        wall_thickness=float(patient.uniform(*WALL)),
        septal=float(np.clip(plane.normal(1, 0.08), 0.8, 1.2)),
        apical=float(plane.uniform(0.5, 0.95)),
        orientation=tilt,
        swing=float(plane.normal(0, 2)),
        apex=(float(x), float(y)),
        bend=float(plane.normal(0, 2.5)),
        obliquity=float(plane.normal(0, 0.08)),
        roundness=(float(plane.uniform(1.7, 3.2)), float(plane.uniform(1.7, 3.2))),
        taper=float(plane.uniform(0.05, 0.4)),
        wall_bumps=wall_bumps,
        cavity_bumps=cavity_bumps,
    )


def _disease(patient: np.random.Generator) -> tuple[tuple[Bump, ...], tuple[Bump, ...]]:
    """Bumps of the wall and of the cavity: uneven walls, and in one heart of three a disease of one place."""
    uneven = tuple(Bump(patient.uniform(-1, 1), 0.35, patient.normal(0, 0.1)) for _ in range(3))
    place, kind = patient.uniform(-0.75, 0.75), patient.integers(9)
    if kind == 0:  # septal bulge
        return (*uneven, Bump(-0.7, 0.25, patient.uniform(0.3, 0.6))), ()
    if kind == 1:  # scar
        return (*uneven, Bump(place, 0.25, -patient.uniform(0.3, 0.55))), ()
    if kind == 2:  # aneurysm, which is thin and bulges
        return (*uneven, Bump(place, 0.25, -patient.uniform(0.2, 0.5))), (Bump(place, 0.3, patient.uniform(0.1, 0.25)),)
    return uneven, ()
