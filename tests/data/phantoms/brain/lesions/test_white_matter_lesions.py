from __future__ import annotations

import numpy as np
import pytest
from helpers.plain_brain import surroundings, tissue_on, volume_grid

from meddiffusers.data.phantoms.brain.lesions.white_matter_lesions import (
    WhiteMatterLesions,
    random_white_matter_lesions,
)

GRID = volume_grid(2.0)
TISSUE = tissue_on(GRID, None)


def lesions(age: float, seed: int, difficulty: float = 0.2) -> WhiteMatterLesions:
    return random_white_matter_lesions(np.random.default_rng(seed), difficulty, surroundings, age)


def extent(found: WhiteMatterLesions) -> np.ndarray:
    return found.parts(GRID, TISSUE)["white_matter_lesion"]


@pytest.mark.slow
def test_number_and_volume_grow_with_age() -> None:
    groups = [[lesions(age, seed) for seed in range(8)] for age in (30, 55, 85)]
    numbers = [np.mean([len(found.spots) for found in group]) for group in groups]
    volumes = [np.mean([extent(found).sum() * 0.008 for found in group]) for group in groups]
    assert numbers[0] < numbers[1] < numbers[2]
    assert volumes[0] < 3 < volumes[1] < volumes[2] < 80  # ml
    assert volumes[2] > 10


def test_some_lie_along_the_ventricles_and_some_in_the_depth() -> None:
    for seed in range(3):
        whole = extent(lesions(80, seed)) > 0.5
        near = TISSUE.ventricle_distance < 6
        assert (whole & near).sum() > 100
        assert (whole & ~near & (TISSUE.ventricle_distance > 12)).sum() > 20


def test_caps_sit_on_the_horns() -> None:
    found = lesions(60, seed=2)
    assert len(found.band.horns) == 4
    assert (surroundings(found.band.horns).ventricle > 0.5).all()
    y = found.band.horns[:, 1]
    assert y.max() - y.min() > 50  # of the ventricles' 66 mm


def test_they_are_in_white_matter_of_the_cerebrum() -> None:
    whole = extent(lesions(85, seed=1))
    assert (whole <= TISSUE.cerebrum + 1e-6).all()
    assert (whole * TISSUE.white).sum() > 0.9 * whole.sum()
