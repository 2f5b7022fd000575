from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from meddiffusers.data.phantoms.cardiac import ERROR_KINDS, CardiacPhantom, InjectedError, corrupted

SPACING = 1.25
EIGHT = np.ones((3, 3))


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    return np.concatenate([CardiacPhantom(seed).labels(np.linspace(0, 0.9, 5)) for seed in range(6)])


def spoilt(clean: np.ndarray, kind: str) -> tuple[np.ndarray, list[InjectedError]]:
    wrong, record = corrupted(clean, SPACING, seed=3, rate=1, kinds=[kind])
    assert [error.frame for error in record] == list(range(len(clean)))
    return wrong, record


def holes(mask: np.ndarray) -> np.ndarray:
    return ndimage.binary_fill_holes(mask) & ~mask


def pieces(mask: np.ndarray) -> int:
    return ndimage.label(mask, EIGHT)[1]


def test_frames_in_the_record_change_and_no_others(clean: np.ndarray) -> None:
    kept = clean.copy()
    wrong, record = corrupted(clean, SPACING, seed=1, rate=0.5)
    np.testing.assert_array_equal(clean, kept)
    changed = [index for index in range(len(clean)) if (wrong[index] != clean[index]).any()]
    assert [error.frame for error in record] == changed
    assert 8 <= len(changed) <= 22
    assert {error.kind for error in record} <= set(ERROR_KINDS)
    assert wrong.dtype == clean.dtype
    assert set(np.unique(wrong)) == {0, 1, 2, 3}


def test_every_kind_changes_every_frame_on_coarse_grids_too() -> None:
    coarse = CardiacPhantom(0).labels(np.linspace(0, 0.9, 6), (48, 48), 3.5)
    for kind in ERROR_KINDS:
        wrong, record = corrupted(coarse, 3.5, seed=0, rate=1, kinds=[kind])
        assert len(record) == 6
        assert (wrong != coarse).any((1, 2)).all(), kind


def test_maps_without_an_atrium_serve_too(clean: np.ndarray) -> None:
    two = np.where(clean == 3, 0, clean).astype(np.uint8)
    wrong, _ = corrupted(two, SPACING, seed=0, rate=1)
    assert (wrong != two).any((1, 2)).all()
    assert set(np.unique(wrong)) == {0, 1, 2}
    leaking = corrupted(two, SPACING, seed=0, rate=1, kinds=["leak"])[0]
    assert [pieces(labels == 1) for labels in leaking] == [1] * len(two)


def test_frames_that_cannot_show_an_error_are_refused() -> None:
    full = np.ones((1, 8, 8), np.uint8)
    full[:, :4] = 2
    with pytest.raises(ValueError, match="has no place for an error; expected a whole heart with background"):
        corrupted(full, 1.0, seed=0, rate=1, kinds=["fragment"])
    with pytest.raises(ValueError, match=r"shows no lv_over in 50 tries; expected pixels finer than 20 mm"):
        corrupted(full, 20, seed=0, rate=1, kinds=["lv_over"])


def test_rate_is_the_share_of_frames() -> None:
    frames = np.repeat(CardiacPhantom(0).labels(np.zeros(1), (48, 48), 3.5), 600, axis=0)
    _, record = corrupted(frames, 3.5, seed=0, rate=0.2)
    assert len(record) / 600 == pytest.approx(0.2, abs=0.05)
    counts = [sum(error.kind == kind for error in record) for kind in ERROR_KINDS]
    assert min(counts) > 0
    assert corrupted(frames[:5], 3.5, seed=0, rate=0)[1] == []


def test_one_seed_gives_one_set_of_errors(clean: np.ndarray) -> None:
    first, again, other = (corrupted(clean, SPACING, seed=seed, rate=0.4) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first[0], again[0])
    assert first[1] == again[1]
    assert (first[0] != other[0]).any()


@pytest.mark.parametrize(("kind", "label"), [("hole_lv", 1), ("hole_myo", 2)])
def test_holes_are_surrounded(clean: np.ndarray, kind: str, label: int) -> None:
    for before, after, error in zip(clean, *spoilt(clean, kind), strict=True):
        changed = before != after
        assert (before[changed] == label).all()
        assert (after[changed] == error.parameters["label"]).all()
        np.testing.assert_array_equal(holes(after == label), changed)
        across = np.sqrt(changed.sum() * SPACING**2 / np.pi)
        assert across <= error.parameters["radius"] * 1.4 + SPACING


def test_holes_are_as_large_in_mm_on_any_grid() -> None:
    phantom, areas = CardiacPhantom(2), []
    for size, spacing in ((128, 1.25), (256, 0.625)):
        frames = np.repeat(phantom.labels(np.zeros(1), (size, size), spacing), 40, axis=0)
        wrong, _ = corrupted(frames, spacing, seed=0, rate=1, kinds=["hole_lv"])
        areas.append(np.mean((wrong != frames).sum((1, 2)) * spacing**2))
    assert areas[0] == pytest.approx(areas[1], rel=0.25)


def test_a_jump_moves_everything_by_what_it_says(clean: np.ndarray) -> None:
    for before, after, error in zip(clean, *spoilt(clean, "jump"), strict=True):
        y, x = (np.argwhere(after == 1).mean(axis=0) - np.argwhere(before == 1).mean(axis=0)) * SPACING
        assert (x, y) == pytest.approx((error.parameters["x"], error.parameters["y"]), abs=0.7 * SPACING)
        assert 6.9 < np.hypot(error.parameters["x"], error.parameters["y"]) < 15.1
        assert (after == 1).sum() == (before == 1).sum()


def lean(labels: np.ndarray) -> float:
    y, x = np.nonzero(labels == 1)
    _, vectors = np.linalg.eigh(np.cov(x, y))
    return float(np.rad2deg(np.arctan(-vectors[0, 1] / vectors[1, 1])))


def test_a_rotation_turns_about_the_heart(clean: np.ndarray) -> None:
    for before, after, error in zip(clean, *spoilt(clean, "rotate"), strict=True):
        assert lean(after) - lean(before) == pytest.approx(error.parameters["degrees"], abs=1)
        centres = [np.argwhere(np.isin(labels, (1, 2))).mean(axis=0) for labels in (before, after)]
        np.testing.assert_allclose(*centres, atol=0.5)


@pytest.mark.parametrize(("kind", "label"), [("lv_over", 1), ("lv_under", 2)])
def test_the_border_of_the_cavity_moves_alone(clean: np.ndarray, kind: str, label: int) -> None:
    for before, after, error in zip(clean, *spoilt(clean, kind), strict=True):
        changed = before != after
        assert (after[changed] == label).all()
        np.testing.assert_array_equal(np.isin(before, (1, 2)), np.isin(after, (1, 2)))
        far = ndimage.distance_transform_edt(before != label, sampling=SPACING)[changed].max()
        assert error.parameters["margin"] - SPACING < far <= error.parameters["margin"]


def test_a_leak_reaches_the_background(clean: np.ndarray) -> None:
    for before, after in zip(clean, spoilt(clean, "leak")[0], strict=True):
        changed = before != after
        assert (after[changed] == 1).all()
        assert ((before == 0) & (after == 1)).any()
        assert pieces(after == 1) == 1


def test_a_fragment_is_loose(clean: np.ndarray) -> None:
    for before, after, error in zip(clean, *spoilt(clean, "fragment"), strict=True):
        changed = before != after
        assert (before[changed] == 0).all()
        assert (after[changed] == error.parameters["label"]).all()
        assert pieces(after > 0) == pieces(before > 0) + 1


def test_a_cut_takes_the_apex(clean: np.ndarray) -> None:
    for before, after, error in zip(clean, *spoilt(clean, "apex_cut"), strict=True):
        changed = before != after
        assert (after[changed] == 0).all()
        rows = np.nonzero((before == 1).any(axis=1))[0]
        left = np.nonzero((after == 1).any(axis=1))[0]
        assert (left[0] - rows[0]) / len(rows) == pytest.approx(error.parameters["share"], abs=0.12)
        assert rows[-1] == left[-1]
        assert (ndimage.binary_dilation(after == 1) & (after == 0)).any()


def test_the_wall_is_missing_on_one_side(clean: np.ndarray) -> None:
    for before, after, error in zip(clean, *spoilt(clean, "missing_myo"), strict=True):
        changed = before != after
        assert (before[changed] == 2).all()
        assert (after[changed] == 0).all()
        assert (ndimage.binary_dilation(after == 1) & (after == 0)).any()
        sides = np.argwhere(changed)[:, 1].mean() - np.argwhere(before == 1)[:, 1].mean()
        assert np.sign(sides) == error.parameters["side"]


def test_noise_changes_borders_only(clean: np.ndarray) -> None:
    rougher = []
    for before, after, error in zip(clean, *spoilt(clean, "border_noise"), strict=True):
        border = ndimage.maximum_filter(before, 3) != ndimage.minimum_filter(before, 3)
        far = ndimage.distance_transform_edt(~border, sampling=SPACING)[before != after].max()
        assert far < 6 * error.parameters["size"]
        assert (after == 1).sum() == pytest.approx((before == 1).sum(), rel=0.12)
        edges = [(ndimage.binary_dilation(labels == 1) & (labels != 1)).sum() for labels in (before, after)]
        rougher.append(edges[1] / edges[0])
    assert min(rougher) > 1
    assert np.mean(rougher) > 1.08


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sequence": np.ones((4, 4), np.uint8)}, r"have shape \(4, 4\); expected \(F, H, W\)"),
        ({"spacing": 0}, "Got spacing = 0 and rate = 0.5; expected mm above 0, and 0 to 1"),
        ({"rate": 2}, "rate = 2; expected"),
        ({"kinds": ["hole"]}, "Got the error kinds hole; expected some of hole_lv, hole_myo"),
        ({"kinds": []}, "Got the error kinds none; expected some of"),
        ({"sequence": np.ones((1, 4, 4), np.uint8)}, r"Frame 0 has no cavity \(1\) or no wall \(2\)"),
    ],
)
def test_bad_arguments_are_refused(clean: np.ndarray, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        corrupted(**{"sequence": clean, "spacing": 1.25, "seed": 0, "rate": 0.5, **arguments})
