"""A brain in closed form: ellipsoids for the surface, a folded cortex, ventricles, deep grey matter and cerebellum."""

from __future__ import annotations

import numpy as np

from meddiffusers.data.phantoms.brain.smooth_field import Grid
from meddiffusers.data.phantoms.brain.tissue import Tissue

CENTRE, AXES = np.array([0.0, -18.0, 10.0]), np.array([68.0, 83.0, 62.0])


def ellipsoid_depth(points: np.ndarray, centre: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """mm below the surface, to first order in the distance."""
    scaled = (points - centre) / axes
    radius = np.sqrt((scaled**2).sum(axis=-1)) + 1e-6
    return radius * (1 - radius) / (np.sqrt(((scaled / axes) ** 2).sum(axis=-1)) + 1e-6)


def step(depth: np.ndarray) -> np.ndarray:
    """Soft fraction across a border 1 mm wide."""
    return np.clip(depth + 0.5, 0, 1)


def surroundings(points: np.ndarray) -> Tissue:
    """Tissue at points (..., 3) in mm."""
    points = np.asarray(points, dtype=np.float64)
    x, y, z = np.moveaxis(points, -1, 0)
    depth = ellipsoid_depth(points, CENTRE, AXES)
    sides = [(np.array([side * 11.0, -15.0, 18.0]), np.array([7.0, 33.0, 9.0])) for side in (-1, 1)]
    ventricle_depth = np.max([ellipsoid_depth(points, *side) for side in sides], axis=0)
    thalami = [(np.array([side * 14.0, -18.0, 4.0]), np.array([9.0, 13.0, 8.0])) for side in (-1, 1)]
    deep_grey = step(np.max([ellipsoid_depth(points, *side) for side in thalami], axis=0))
    folds = np.sin(x / 6 + 0.9 * np.sin(y / 9)) * np.sin(y / 7 + 0.9 * np.sin(z / 10)) + 0.5 * np.sin(z / 6 + x / 15)
    sulcus = 2.5 + 15 * np.exp(-((folds / 0.16) ** 2))  # mm, how deep the fluid comes
    brain, ventricle = step(depth), step(ventricle_depth)
    tissue = brain * (1 - ventricle)
    within_pia, within_cortex = step(depth - sulcus), step((depth - sulcus - 4) / 1.5)
    grey = tissue * np.maximum(within_pia - within_cortex, deep_grey * within_cortex)
    white = tissue * within_cortex * (1 - deep_grey)
    values = {
        "white": white,
        "grey": grey,
        "fluid": tissue - white - grey,
        "ventricle": brain * ventricle,
        "brain": brain,
        "depth": np.clip(depth, 0, None),
        "ventricle_distance": -ventricle_depth,
        "cerebrum": (z > -22 + 0.2 * (y + 18)).astype(float) * brain,
    }
    return Tissue(**{name: value.astype(np.float32) for name, value in values.items()})


def volume_grid(spacing: float) -> Grid:
    """Planes through the whole brain, with points at odd halves so that spacings nest."""
    x, y, z = (
        middle + spacing * (np.arange(np.ceil(2 * (half + 4) / spacing)) + 0.5) - (half + 4)
        for middle, half in zip(CENTRE, AXES, strict=True)
    )
    return x, y, z


def tissue_on(grid: Grid, displacement: np.ndarray | None) -> Tissue:
    """The anatomy of a grid, displaced."""
    points = np.stack(np.meshgrid(*grid, indexing="ij"))
    return surroundings(np.moveaxis(points if displacement is None else points - displacement, 0, -1))
