from __future__ import annotations

import numpy as np
import pytest
from helpers.plain_brain import surroundings, tissue_on, volume_grid
from scipy import ndimage

from meddiffusers.data.phantoms.brain.lesions.cavity import Cavity, random_cavity

GRID = volume_grid(2.0)


def cavity(difficulty: float, seed: int) -> Cavity:
    return random_cavity(np.random.default_rng(seed), difficulty, surroundings)


@pytest.mark.parametrize("seed", range(6))
def test_the_fluid_is_one_piece_and_open_to_the_surface(seed: int) -> None:
    found = cavity(0.2, seed)
    tissue = tissue_on(GRID, found.displacement(GRID))
    fluid = found.parts(GRID, tissue)["cavity"] > 0.5
    pieces, _ = ndimage.label(fluid)
    sizes = np.bincount(pieces.ravel())[1:]
    assert sizes.max() > 0.95 * sizes.sum()
    assert tissue.depth[fluid].min() < 3  # mm
    assert tissue.depth[fluid].max() > 8


@pytest.mark.parametrize("seed", range(4))
def test_the_scar_is_a_thin_border_of_the_fluid(seed: int) -> None:
    found = cavity(0.0, seed)
    parts = found.parts(GRID, tissue_on(GRID, found.displacement(GRID)))
    scar, away = parts["oedema"] > 0.5, ndimage.distance_transform_edt(parts["cavity"] < 0.5, sampling=2.0)
    assert scar.any()
    assert away[scar].max() < 4 * found.shape.scar + 2
    assert not (scar & (parts["cavity"] > 0.5)).any()


@pytest.mark.slow
def test_the_harder_the_smaller() -> None:
    radii = [[cavity(difficulty, seed).shape.radius for seed in range(20)] for difficulty in (0.0, 1.0)]
    assert np.mean(radii[0]) > 1.3 * np.mean(radii[1])
    assert min(radii[1]) >= 4
