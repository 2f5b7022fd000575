from __future__ import annotations

import numpy as np
import pytest
from helpers.plain_brain import surroundings, tissue_on, volume_grid
from scipy import ndimage

from meddiffusers.data.phantoms.brain.lesions.tumour import Tumour, random_tumour

GRID = volume_grid(2.0)


def tumour(difficulty: float, seed: int) -> Tumour:
    return random_tumour(np.random.default_rng(seed), difficulty, surroundings)


def extent(found: Tumour) -> np.ndarray:
    return np.sum(list(found.parts(GRID, tissue_on(GRID, found.displacement(GRID))).values()), axis=0)


@pytest.fixture(scope="module")
def hard() -> list[Tumour]:
    return [tumour(1.0, seed) for seed in range(25)]


@pytest.mark.slow
def test_easy_tumours_have_one_focus_with_all_three_parts() -> None:
    for seed in range(6):
        found = tumour(0.0, seed)
        parts = found.parts(GRID, tissue_on(GRID, found.displacement(GRID)))
        assert len(found.foci) == 1
        assert all(parts[name].sum() * 0.008 > 0.3 for name in ("necrosis", "enhancing", "oedema"))  # ml
        pieces, _ = ndimage.label(np.sum(list(parts.values()), axis=0) > 0.5, np.ones((3, 3, 3)))
        sizes = np.bincount(pieces.ravel())[1:]
        assert sizes.max() > 0.95 * sizes.sum()


@pytest.mark.slow
def test_hard_tumours_are_one_to_many_and_tiny_to_large(hard: list[Tumour]) -> None:
    counts = [len(found.foci) for found in hard]
    volumes = [extent(found).sum() * 0.008 for found in hard[:10]]  # ml
    assert min(counts) == 1 and max(counts) >= 4
    assert min(volumes) < 3 and max(volumes) > 25


@pytest.mark.slow
def test_several_foci_are_seen_apart() -> None:
    found = next(found for seed in range(40) if len((found := tumour(1.0, seed)).foci) >= 3)
    _, pieces = ndimage.label(extent(found) > 0.5)
    assert pieces >= 2


def test_some_hard_tumours_do_not_enhance_and_some_foci_are_missed_by_raters(hard: list[Tumour]) -> None:
    tissue = tissue_on(GRID, None)
    enhancing = [found.parts(GRID, tissue)["enhancing"].max() > 0.2 for found in hard[:8]]
    assert any(enhancing) and not all(enhancing)
    assert any(focus.left_out_by for found in hard for focus in found.foci)
    assert not any(found.foci[0].left_out_by for found in hard)


def test_tumours_lie_in_the_cerebrum(hard: list[Tumour]) -> None:
    centres = np.array([(focus.levels.low + focus.levels.high) / 2 for found in hard for focus in found.foci])
    tissue = surroundings(centres)
    assert (tissue.cerebrum > 0.5).all()
    assert (tissue.depth > 2).all()
    assert (tissue.white > 0.5).mean() > 0.9


def test_a_focus_ends_within_its_lattice(hard: list[Tumour]) -> None:
    for focus in (focus for found in hard for focus in found.foci):
        low, high = focus.levels.low, focus.levels.high
        for axis in range(3):
            for end in (low, high):
                grid = [np.linspace(low[k], high[k], 15) for k in range(3)]
                grid[axis] = end[axis : axis + 1]
                assert focus.levels((grid[0], grid[1], grid[2]))[[0, 2]].max() < -1.5  # soft fraction below 0.3 %


@pytest.mark.slow
def test_oedema_follows_white_matter_and_stays_out_of_ventricle_and_fluid() -> None:
    for seed in range(4):
        found = tumour(0.3, seed)
        tissue = tissue_on(GRID, found.displacement(GRID))
        oedema = found.parts(GRID, tissue)["oedema"]
        assert (oedema <= 1 - tissue.ventricle + 1e-5).all()
        assert (oedema <= tissue.white + tissue.grey + 1e-5).all()
        assert (oedema * tissue.white).sum() > 0.75 * oedema.sum()
