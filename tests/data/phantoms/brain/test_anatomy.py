"""The anatomy on grids of its own: against the template itself, and against what warps and folds must do to it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from meddiffusers.data.phantoms.brain.anatomy import PARTS, Anatomy, Sulci, anatomy_at, offsets
from meddiffusers.data.phantoms.brain.smooth_field import Grid, SmoothField, points_of
from meddiffusers.data.phantoms.brain.structures import FLUID, STRUCTURES
from meddiffusers.data.phantoms.brain.template import COARSE, DEEP, TISSUES, template
from meddiffusers.data.phantoms.brain.warp import CENTRE, THALAMUS, Warp, sample_maps
from meddiffusers.data.regions import MIRRORED, mirrored_labels

RNG = np.random.default_rng(0)
STILL = Warp(
    np.eye(3, dtype=np.float32), SmoothField(RNG, 60, coefficients=np.zeros_like(SmoothField(RNG, 60, 3).coefficients))
)
WHOLE = tuple(np.arange(-half, half, 4) + c for half, c in zip((82, 106, 90), CENTRE.tolist(), strict=True))
DEEP_GRID = (np.arange(-40.5, 41), np.arange(-40.0, 20, 2), np.arange(-24.0, 30, 2))


def unfolded(grid: Grid) -> np.ndarray:
    """Sulci that are the template's own."""
    return np.ones((3, *map(len, grid)), np.float32)


def plain(grid: Grid, warp: Warp = STILL) -> Anatomy:
    return anatomy_at(grid, warp, unfolded, template())


def amounts(anatomy: Anatomy) -> dict[str, float]:
    return dict(zip(PARTS, anatomy.fractions.sum(axis=1, dtype=np.float64).tolist(), strict=True))


def individual(seed: int, atrophy: float = 0.0) -> tuple[Warp, Sulci]:
    rng = np.random.default_rng(seed)
    return Warp.random(rng), Sulci(SmoothField(rng, 5, 3), atrophy)


@pytest.mark.slow
def test_without_warp_and_folds_it_is_the_template() -> None:
    maps = template()
    first = (maps.deep_origin - maps.origin).astype(int)
    shape = maps.deep.shape[1:]
    grid = tuple(start + np.arange(size) for start, size in zip(maps.deep_origin, shape, strict=True))
    right = grid[0] >= 0
    found = plain((grid[0][right], grid[1], grid[2]))
    tissues, deep = (part[:, right] for part in (_box(maps.tissues, first, shape), maps.deep))
    brain, rest = tissues[:3].sum(axis=0), np.clip(1 - deep[: len(STRUCTURES)].sum(axis=0), 0, 1)
    expected = {name: deep[DEEP.index(name)] * brain for name in STRUCTURES}
    _, _, white, cerebellum, brainstem = tissues[:5]
    expected["fluid"] = tissues[TISSUES.index("fluid")] * rest
    expected["cerebral white matter"] = white * rest * np.clip(1 - cerebellum - brainstem, 0, 1)
    expected["cerebellar white matter"] = white * rest * cerebellum
    full = found.to_grid(found.fractions)
    for name, fraction in expected.items():
        difference = np.abs(full[PARTS.index(name)] - fraction)
        # The template's tissue below a hundredth is dropped, and the remainder shared out.
        assert difference.max() < 0.02, name
        assert difference.mean() < 1e-3, name


def _box(maps: np.ndarray, first: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    x, y, z = (slice(start, start + size) for start, size in zip(first, shape, strict=True))
    return maps[:, x, y, z]


def test_the_left_half_mirrors_the_right() -> None:
    found = plain(DEEP_GRID)
    labels = found.labels()
    np.testing.assert_array_equal(labels, mirrored_labels(labels[::-1]))
    assert {10, 49, 4, 43, 14}.issubset(np.unique(labels))
    volumes = found.volumes(4.0)
    for label, amount in volumes.items():
        assert amount == pytest.approx(volumes[MIRRORED[label]], rel=1e-4)


def test_fractions_are_shares_of_the_brain() -> None:
    found = anatomy_at(DEEP_GRID, *individual(1), template())
    whole = found.fractions.sum(axis=0)
    assert found.fractions.min() >= 0
    assert whole.max() <= 1 + 1e-3
    np.testing.assert_allclose(whole[found.depth[found.inside] > 4], 1, atol=0.02)
    assert (found.choroid <= found.fractions[PARTS.index("lateral ventricle")] + 1e-3).all()
    assert sum(found.volumes(4.0).values()) == pytest.approx(4 * whole.sum(dtype=np.float64), rel=1e-4)


def test_tissue_maps_sum_to_the_brain() -> None:
    tissue = anatomy_at(WHOLE, *individual(2), template()).tissue()
    total = tissue.white + tissue.grey + tissue.fluid + tissue.ventricle
    np.testing.assert_allclose(total, tissue.brain, atol=1e-5)
    deep = tissue.depth > 3
    assert (tissue.brain[deep] > 0.9).mean() > 0.99
    assert (tissue.brain[tissue.depth == 0] > 0.6).mean() < 0.01
    assert (tissue.ventricle_distance[tissue.ventricle > 0.9] < 1).all()


def test_a_larger_brain_is_the_same_one_in_larger_millimetres() -> None:
    warp, _ = individual(4)
    x, y, z = (middle + 1.05 * (planes - middle) for middle, planes in zip(CENTRE, WHOLE, strict=True))
    small, large = plain(WHOLE, warp), plain((x, y, z), replace(warp, size=1.05))
    within = small.inside & large.inside  # the rim of the larger one is as wide, in millimetres
    np.testing.assert_allclose(
        large.to_grid(large.fractions)[:, within], small.to_grid(small.fractions)[:, within], atol=0.02
    )
    np.testing.assert_allclose(large.depth, 1.05 * small.depth, atol=0.01)


def test_atrophy_turns_cortex_into_fluid() -> None:
    young, old = (amounts(anatomy_at(WHOLE, *individual(3, atrophy), template())) for atrophy in (-0.5, 1.0))
    assert old["fluid"] > 1.3 * young["fluid"]
    assert old["cortex"] < 0.95 * young["cortex"]
    assert old["lateral ventricle"] == pytest.approx(young["lateral ventricle"])
    assert sum(old.values()) == pytest.approx(sum(young.values()), rel=1e-4)


def test_widening_fills_the_ventricles_and_keeps_the_brain() -> None:
    steps = [amounts(plain(WHOLE, replace(STILL, widening=mm))) for mm in (-2.0, 0.0, 3.0, 6.0)]
    ventricles = [sum(step[name] for name in FLUID) for step in steps]
    assert all(wide > 1.2 * narrow for narrow, wide in pairwise(ventricles))
    assert sum(steps[-1].values()) == pytest.approx(sum(steps[0].values()), rel=0.01)


def test_widening_moves_points_towards_the_wall_and_leaves_those_far_away() -> None:
    points = np.random.default_rng(1).uniform((-40, -60, 12), (40, 30, 40), (4000, 3)).T.astype(np.float32)

    def walls(places: np.ndarray) -> np.ndarray:
        return sample_maps(template().distances[:1], places, template().origin, COARSE)[0]

    moved = replace(STILL, widening=3.0).widened(points, template())
    before = walls(points)
    near, gained = (before > 0.5) & (before < 3), before - walls(moved)
    thalamus = np.sqrt(((np.stack([np.abs(points[0]), *points[1:]], axis=1) - THALAMUS) ** 2).sum(axis=1)) < 14
    front = near & (points[1] > 5)
    assert 2 < np.median(gained[front]) < 3.1
    assert np.median(gained[near & thalamus]) < 0.6 * np.median(gained[front])
    assert np.sqrt(((moved - points) ** 2).sum(axis=0)).max() <= 3 + 1e-4
    np.testing.assert_array_equal(moved[:, before > 35], points[:, before > 35])
    flip = np.array([[-1], [1], [1]], np.float32)
    np.testing.assert_allclose(replace(STILL, widening=3.0).widened(points * flip, template()), moved * flip, atol=1e-4)


def test_the_centre_of_a_posture_stays() -> None:
    warp = replace(Warp.random(np.random.default_rng(5)), displacement=STILL.displacement, size=0.8)
    grid = tuple(np.array([middle, middle + 10]) for middle in CENTRE)
    places = warp(grid, points_of(grid))
    np.testing.assert_allclose(places[:, 0, 0, 0], CENTRE, atol=1e-4)
    edges = np.linalg.norm(places[:, [1, 0, 0], [0, 1, 0], [0, 0, 1]] - CENTRE[:, None], axis=0)
    np.testing.assert_allclose(edges, 10 / 0.8, rtol=0.1)  # proportions vary by a few per cent


def test_displaced_tissue_is_found_where_it_went() -> None:
    shift = np.array([3.0, -2.0, 4.0])
    undisplaced = anatomy_at(
        DEEP_GRID,
        STILL,
        unfolded,
        template(),
        displacement=lambda grid: np.broadcast_to(shift[:, None, None, None], (3, *map(len, grid))).astype(np.float32),
    )
    x, y, z = (planes - mm for planes, mm in zip(DEEP_GRID, shift, strict=True))
    there = plain((x, y, z))
    np.testing.assert_array_equal(undisplaced.labels(), there.labels())
    np.testing.assert_allclose(undisplaced.fractions, there.fractions, atol=1e-4)


@pytest.mark.parametrize(
    ("spacing", "counts"),
    [
        ((1.0, 1.0, 1.0), (1, 1, 1)),
        ((2.0, 2.0, 2.0), (2, 2, 2)),
        ((1.0, 1.0, 5.0), (1, 1, 4)),
        ((3.0, 2, 1), (2, 2, 1)),
    ],
)
def test_points_within_a_voxel_stand_for_it(spacing: tuple[float, float, float], counts: tuple[int, ...]) -> None:
    found = np.array(offsets(spacing))
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)
    edges, number = np.array(spacing), np.array(counts)
    variance = edges**2 / 12 * (1 - 1 / number**2)  # of the middles of `number` equal pieces of an edge
    np.testing.assert_allclose(found.T @ found / len(found), np.diag(variance), atol=1e-12)
