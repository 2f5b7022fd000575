"""What holds for every kind of lesion."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from helpers.plain_brain import surroundings, tissue_on, volume_grid

from meddiffusers.data.phantoms.brain.lesions.appearance import LESION_INTENSITIES, LESION_LABELS, random_appearance
from meddiffusers.data.phantoms.brain.lesions.kinds import KINDS, Lesion, lesion_labels, random_lesions
from meddiffusers.data.phantoms.brain.smooth_field import Grid
from meddiffusers.data.phantoms.brain.tissue import Tissue

COARSE = volume_grid(2.0)
HEALTHY = tissue_on(COARSE, None)
HARD = 0.9


def lesion(kind: str, difficulty: float, seed: int, age: float = 70.0) -> Lesion:
    return random_lesions(np.random.default_rng(seed), kind, difficulty, surroundings, age)


def tissue_of(found: Lesion, grid: Grid) -> Tissue:
    displacement = found.displacement(grid)
    return HEALTHY if displacement is None and grid is COARSE else tissue_on(grid, displacement)


def seen_on(found: Lesion, grid: Grid) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Its parts and its raters' outlines."""
    tissue = tissue_of(found, grid)
    return found.parts(grid, tissue), found.raters(grid, tissue)


def parts_on(found: Lesion, grid: Grid) -> dict[str, np.ndarray]:
    return found.parts(grid, tissue_of(found, grid))


def raters_on(found: Lesion, grid: Grid) -> np.ndarray:
    return found.raters(grid, tissue_of(found, grid))


def agreement(outlines: np.ndarray) -> float:
    """Mean Dice of all pairs of raters."""
    pairs = combinations(outlines, 2)
    return float(np.mean([2 * (one & other).sum() / (one.sum() + other.sum()) for one, other in pairs]))


def millilitres(parts: dict[str, np.ndarray], spacing: float) -> dict[str, float]:
    return {name: float(part.sum(dtype=np.float64)) * spacing**3 / 1000 for name, part in parts.items()}


def halved(where: np.ndarray) -> Grid:
    """Planes 1 mm apart that halve the voxels of `COARSE` around all that is True."""
    ends = [(indices.min(), indices.max()) for indices in np.nonzero(where)]
    x, y, z = (
        (planes[first : last + 1, None] + [-0.5, 0.5]).ravel()
        for planes, (first, last) in zip(COARSE, ends, strict=True)
    )
    return x, y, z


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("difficulty", [0.0, HARD])
def test_a_slice_alone_is_the_slice_of_the_volume(kind: str, difficulty: float) -> None:
    found = lesion(kind, difficulty, seed=4)
    parts, outlines = seen_on(found, COARSE)
    index = int(sum(parts.values()).sum(axis=(0, 1)).argmax())
    plane: Grid = (COARSE[0], COARSE[1], COARSE[2][index : index + 1])
    alone, outlines_alone = seen_on(found, plane)
    for name, part in alone.items():
        np.testing.assert_allclose(part, parts[name][..., index : index + 1], atol=2e-5)
    assert outlines[..., index].any()
    assert (outlines_alone != outlines[..., index : index + 1]).sum() <= 1  # rounding may turn one voxel


@pytest.mark.parametrize("kind", KINDS)
def test_any_window_sees_the_same_lesion(kind: str) -> None:
    found = lesion(kind, 0.5, seed=6)
    whole = parts_on(found, COARSE)
    window = (slice(20, 41), slice(10, 70), slice(25, 50))
    inner = parts_on(found, tuple(planes[part] for planes, part in zip(COARSE, window, strict=True)))  # type: ignore[arg-type]
    for name, part in inner.items():
        np.testing.assert_allclose(part, whole[name][window], atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_volumes_do_not_depend_on_the_spacing(kind: str) -> None:
    found = lesion(kind, 0.2, seed=1)
    parts = parts_on(found, COARSE)
    coarse, fine = millilitres(parts, 2.0), millilitres(parts_on(found, halved(sum(parts.values()) > 0)), 1.0)
    large = {name: volume for name, volume in fine.items() if volume > 1}
    assert large
    for name, volume in large.items():
        assert coarse[name] == pytest.approx(volume, rel=0.03), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_parts_are_fractions_of_the_brain_outside_the_ventricles(kind: str) -> None:
    for seed in range(4):
        found = lesion(kind, seed / 3, seed)
        tissue = tissue_on(COARSE, found.displacement(COARSE))
        parts = found.parts(COARSE, tissue)
        assert set(parts) <= set(LESION_LABELS)
        total = np.sum(list(parts.values()), axis=0)
        assert min(part.min() for part in parts.values()) >= 0
        assert (total <= tissue.brain * (1 - tissue.ventricle) + 1e-5).all()
        assert total.max() > 0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_the_reference_lies_between_what_all_and_what_any_rater_marks(kind: str) -> None:
    for seed in range(5):
        found = lesion(kind, seed / 4, seed)
        parts, outlines = seen_on(found, COARSE)
        reference = lesion_labels(parts) > 0
        assert not (outlines.all(axis=0) & ~reference).any()
        assert not (reference & ~outlines.any(axis=0)).any()


@pytest.mark.parametrize(("kind", "hard"), [("tumour", 0.88), ("white_matter_lesions", 0.88), ("cavity", 0.92)])
@pytest.mark.slow
def test_raters_agree_on_easy_lesions_and_differ_on_hard_ones(kind: str, hard: float) -> None:
    easy, middle, difficult = (
        float(np.mean([agreement(raters_on(lesion(kind, difficulty, seed), COARSE)) for seed in range(5)]))
        for difficulty in (0.0, 0.5, 1.0)
    )
    assert easy > 0.95
    assert easy > middle > difficult
    assert 0.6 < difficult < hard


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_lesions_are_a_function_of_the_seed(kind: str) -> None:
    first, again, other = (lesion(kind, 0.6, seed) for seed in (3, 3, 5))
    (parts, outlines), (parts_again, outlines_again) = seen_on(first, COARSE), seen_on(again, COARSE)
    other_parts = parts_on(other, COARSE)
    for name, part in parts.items():
        np.testing.assert_array_equal(part, parts_again[name])
        assert not np.array_equal(part, other_parts[name])
    np.testing.assert_array_equal(outlines, outlines_again)
    assert first.appearance == again.appearance != other.appearance


@pytest.mark.parametrize("kind", ["tumour", "cavity"])
@pytest.mark.slow
def test_what_moves_is_smooth_invertible_and_at_rest_far_away(kind: str) -> None:
    moved = 0
    for seed in range(6):
        found = lesion(kind, 0.1, seed)
        displacement = found.displacement(COARSE)
        if displacement is None:
            continue
        moved += 1
        slopes = np.stack([np.stack(np.gradient(component, 2.0)) for component in displacement.astype(np.float64)])
        jacobian = np.linalg.det(np.eye(3) - np.moveaxis(slopes, (0, 1), (-2, -1)))
        assert jacobian.min() > 0.05
        assert np.abs(displacement).max() < 12
        whole = np.sum(list(parts_on(found, COARSE).values()), axis=0)
        where = np.argwhere(whole > 0.5)
        centre = [planes[index] for planes, index in zip(COARSE, where.mean(axis=0).astype(int), strict=True)]
        offset = np.stack(np.meshgrid(*COARSE, indexing="ij")) - np.reshape(centre, (3, 1, 1, 1))
        distance = np.sqrt((offset**2).sum(axis=0))
        assert (displacement[:, distance > 115] == 0).all()
        outward = np.sign((displacement * offset).sum(axis=0)[distance < 15].mean())
        assert outward == (1 if kind == "tumour" else -1)
    assert moved >= 2


def test_labels_are_those_of_brats_and_need_half_a_voxel() -> None:
    parts = {
        "necrosis": np.array([0.6, 0.2, 0.0, 0.0]),
        "oedema": np.array([0.2, 0.3, 0.7, 0.4]),
        "enhancing": np.array([0.1, 0.5, 0.1, 0.0]),
    }
    np.testing.assert_array_equal(lesion_labels(parts), [1, 4, 2, 0])


@pytest.mark.parametrize("modality", list(LESION_INTENSITIES))
def test_easy_lesions_follow_the_table_and_hard_ones_are_fainter(modality: str) -> None:
    easy, hard = (
        [random_appearance(np.random.default_rng(seed), difficulty) for seed in range(40)] for difficulty in (0.0, 1.0)
    )
    mean = {part: np.mean([appearance.intensities(modality)[part] for appearance in easy]) for part in LESION_LABELS}
    assert mean == pytest.approx(LESION_INTENSITIES[modality], rel=0.05)
    assert {appearance.contrast for appearance in easy} == {1.0}
    assert 0.3 < np.mean([appearance.contrast for appearance in hard]) < 0.75


def test_another_kind_or_difficulty_is_refused() -> None:
    with pytest.raises(ValueError, match="no lesions of the kind 'stroke'; choose one of tumour"):
        lesion("stroke", 0.5, seed=0)
    with pytest.raises(ValueError, match=r"difficulty=1\.5 is not between 0 and 1"):
        lesion("tumour", 1.5, seed=0)
