from __future__ import annotations

import dataclasses
from pathlib import Path

import datasets
import numpy as np
import pytest
from scipy import ndimage

from meddiffusers.data.phantoms.brain import template as module
from meddiffusers.data.phantoms.brain.structures import STRUCTURES, Structure
from meddiffusers.data.phantoms.brain.template import DEEP, DETAIL, MARGIN, template
from meddiffusers.data.phantoms.brain.warp import sample_maps

# ml on one side in adults, from volumetric studies by MRI; the average brain is 1/.744 as large as a person's.
ADULT = {
    "thalamus": (5.0, 9.0),
    "caudate": (2.5, 4.7),
    "putamen": (3.5, 6.5),
    "pallidum": (1.0, 2.3),
    "hippocampus": (2.5, 4.8),
    "amygdala": (1.0, 2.3),
    "accumbens": (0.3, 0.8),
}
SCALE = 0.744


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_deep_structure_is_nearly_one_piece(name: str) -> None:
    pieces = np.bincount(ndimage.label(template().deep[DEEP.index(name)] > 0.5)[0].ravel())[1:]
    assert pieces.max() > 0.99 * pieces.sum()


@pytest.mark.parametrize("name", ADULT)
def test_a_deep_structure_has_adult_size(name: str) -> None:
    assert ADULT[name][0] < SCALE * template().deep[DEEP.index(name)].sum() / 1000 < ADULT[name][1]


def test_deep_structures_are_within_their_chains() -> None:
    maps = template()
    for name, structure in STRUCTURES.items():
        index = np.argwhere(maps.deep[DEEP.index(name)] > 0.5) + maps.deep_origin
        points = np.stack([np.abs(index[:, 0]), index[:, 1], index[:, 2]]).astype(np.float32)
        assert np.quantile(structure.depth(points), 0.2 if name == "ventral diencephalon" else 0.01) > -1, name


def test_fractions_are_fractions() -> None:
    maps = template()
    for stack in (maps.tissues[:5], maps.deep):
        assert stack.min() >= 0
        assert stack.max() <= 1
    assert maps.tissues[:3].sum(axis=0).max() <= 1 + 1e-3
    assert maps.deep[:-1].sum(axis=0).max() <= 1 + 1e-3
    assert np.abs(maps.tissues[5]).max() <= DETAIL + 1e-3


def test_brain_and_its_parts_have_their_size() -> None:
    fluid, grey, white, cerebellum, brainstem, _ = template().tissues[:, MARGIN:]
    tissue = grey + white
    assert 1.5e6 < 2 * tissue.sum() < 1.8e6  # mm³: the ICBM average is larger than a person's brain
    assert 110 < SCALE * 2 * (tissue * cerebellum).sum() / 1000 < 160
    assert 15 < SCALE * 2 * (tissue * brainstem).sum() / 1000 < 28
    assert fluid.sum() > 0


def test_the_left_half_mirrors_the_right() -> None:
    maps = template()
    points = np.random.default_rng(0).uniform(-60, 60, (3, 500)).astype(np.float32)
    mirrored = points * np.array([[-1], [1], [1]], np.float32)
    np.testing.assert_array_equal(
        sample_maps(maps.tissues, points, maps.origin), sample_maps(maps.tissues, mirrored, maps.origin)
    )


def test_points_are_interpolated_linearly() -> None:
    ramp = np.fromfunction(lambda c, x, y, z: 2.0 * x + 3.0 * y - z, (1, 20, 21, 22)).astype(np.float32)
    points = np.random.default_rng(1).uniform(1, 17, (3, 200)).astype(np.float32)
    expected = 2 * (points[0] - 1) + 3 * (points[1] + 2) - points[2] * 1
    clipped = (points[1] + 2 < 20) & (points[0] > 1)
    found = sample_maps(ramp, points, np.array([1.0, -2.0, 0.0]))[0]
    np.testing.assert_allclose(found[clipped], expected[clipped], atol=1e-3)


def test_what_is_cached_is_what_was_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = module.Template(
        np.linspace(0, 1, 24).reshape(1, 2, 3, 4),
        np.zeros((1, 1, 1, 1)),
        np.ones((6, 1, 1, 1)),
        np.zeros(3),
        np.ones(3),
    )
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(module, "_build", lambda: small)
    found = template.__wrapped__()
    monkeypatch.setattr(module, "_build", lambda: pytest.fail("built twice"))
    for again in (found, template.__wrapped__()):
        for item in dataclasses.fields(module.Template):
            np.testing.assert_allclose(getattr(again, item.name), getattr(small, item.name), atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == [f"meddiffusers-brain-template-v{module.VERSION}"]


def test_depth_in_a_chain_of_spheres() -> None:
    chain = Structure(1, (0, 1), (((0, 0, 0, 2), (10, 0, 0, 4)),))
    points = np.array([[0, 0, 0], [5, 0, 0], [5, 5, 0], [10, 0, 4], [13, 0, 0]], float).T
    np.testing.assert_allclose(chain.depth(points), [2, 3, -2, 0, 1], atol=1e-6)
    assert set(ADULT) <= set(STRUCTURES)
