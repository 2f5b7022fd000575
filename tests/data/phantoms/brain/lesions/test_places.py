from __future__ import annotations

import numpy as np
import pytest
from helpers.plain_brain import surroundings

from meddiffusers.data.phantoms.brain.lesions.places import random_place
from meddiffusers.data.phantoms.brain.tissue import Tissue


@pytest.mark.parametrize("depth", [(4.0, 12.0), (15.0, 40.0)])
def test_places_are_in_white_matter_at_the_requested_depth(depth: tuple[float, float]) -> None:
    points = np.array([random_place(np.random.default_rng(seed), surroundings, depth) for seed in range(40)])
    tissue = surroundings(points)
    assert (tissue.white > 0.65).mean() > 0.95
    assert (tissue.cerebrum > 0.95).all() and (tissue.ventricle_distance > 1).all()
    assert (tissue.depth > depth[0] - 0.2).all() and (tissue.depth < depth[1] + 0.2).all()
    assert points.std(axis=0).min() > 15  # all over the brain


def test_a_place_near_another_is_near_it() -> None:
    first = np.array([35.0, -20.0, 20.0])
    distances = [
        np.linalg.norm(random_place(np.random.default_rng(seed), surroundings, (4, 60), first, 15.0) - first)
        for seed in range(30)
    ]
    assert 8 < np.mean(distances) < 22


def test_where_nothing_suits_there_is_still_a_place_in_the_cerebrum() -> None:
    def without_white(points: np.ndarray) -> Tissue:
        tissue = surroundings(points)
        return Tissue(**{**vars(tissue), "white": np.zeros_like(tissue.white)})

    point = random_place(np.random.default_rng(0), without_white, (200.0, 300.0))
    assert surroundings(point[None]).cerebrum[0] > 0.9
