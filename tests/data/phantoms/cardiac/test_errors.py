from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from meddiffusers.data.phantoms.cardiac import ERROR_KINDS, CardiacPhantom, InjectedError, corrupt_sequence

SPACING = 1.25
EIGHT_CONNECTED = np.ones((3, 3))


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    return np.concatenate([CardiacPhantom(seed).labels(np.linspace(0, 0.9, 5)) for seed in range(6)])


def corrupt_all(clean: np.ndarray, kind: str) -> tuple[np.ndarray, list[InjectedError]]:
    corrupted, record = corrupt_sequence(clean, SPACING, seed=3, rate=1, kinds=[kind])
    assert [error.frame for error in record] == list(range(len(clean)))
    return corrupted, record


def holes(mask: np.ndarray) -> np.ndarray:
    return ndimage.binary_fill_holes(mask) & ~mask


def count_components(mask: np.ndarray) -> int:
    return ndimage.label(mask, EIGHT_CONNECTED)[1]


def test_only_recorded_frames_change(clean: np.ndarray) -> None:
    original = clean.copy()
    corrupted, record = corrupt_sequence(clean, SPACING, seed=1, rate=0.5)
    np.testing.assert_array_equal(clean, original)
    changed = [t for t in range(len(clean)) if (corrupted[t] != clean[t]).any()]
    assert [error.frame for error in record] == changed
    assert 8 <= len(changed) <= 22
    assert {error.kind for error in record} <= set(ERROR_KINDS)
    assert corrupted.dtype == clean.dtype
    assert set(np.unique(corrupted)) == {0, 1, 2, 3}


def test_every_kind_changes_every_frame_on_coarse_grids_too() -> None:
    coarse = CardiacPhantom(0).labels(np.linspace(0, 0.9, 6), (48, 48), 3.5)
    for kind in ERROR_KINDS:
        corrupted, record = corrupt_sequence(coarse, 3.5, seed=0, rate=1, kinds=[kind])
        assert len(record) == 6
        assert (corrupted != coarse).any((1, 2)).all(), kind


def test_label_maps_without_an_atrium_are_accepted(clean: np.ndarray) -> None:
    two = np.where(clean == 3, 0, clean).astype(np.uint8)
    corrupted, _ = corrupt_sequence(two, SPACING, seed=0, rate=1)
    assert (corrupted != two).any((1, 2)).all()
    assert set(np.unique(corrupted)) == {0, 1, 2}
    leaking = corrupt_sequence(two, SPACING, seed=0, rate=1, kinds=["leak"])[0]
    assert [count_components(labels == 1) for labels in leaking] == [1] * len(two)


def test_frames_that_cannot_contain_an_error_are_refused() -> None:
    full = np.ones((1, 8, 8), np.uint8)
    full[:, :4] = 2
    with pytest.raises(ValueError, match="has no place for an error; expected a whole heart with background"):
        corrupt_sequence(full, 1.0, seed=0, rate=1, kinds=["fragment"])
    with pytest.raises(ValueError, match=r"shows no lv_over in 50 tries; expected pixels finer than 20 mm"):
        corrupt_sequence(full, 20, seed=0, rate=1, kinds=["lv_over"])


def test_rate_is_the_fraction_of_frames() -> None:
    frames = np.repeat(CardiacPhantom(0).labels(np.zeros(1), (48, 48), 3.5), 600, axis=0)
    _, record = corrupt_sequence(frames, 3.5, seed=0, rate=0.2)
    assert len(record) / 600 == pytest.approx(0.2, abs=0.05)
    counts = [sum(error.kind == kind for error in record) for kind in ERROR_KINDS]
    assert min(counts) > 0
    assert corrupt_sequence(frames[:5], 3.5, seed=0, rate=0)[1] == []


def test_one_seed_gives_one_set_of_errors(clean: np.ndarray) -> None:
    first, again, other = (corrupt_sequence(clean, SPACING, seed=seed, rate=0.4) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first[0], again[0])
    assert first[1] == again[1]
    assert (first[0] != other[0]).any()


@pytest.mark.parametrize(("kind", "label"), [("hole_lv", 1), ("hole_myo", 2)])
def test_holes_are_surrounded(clean: np.ndarray, kind: str, label: int) -> None:
    for before, after, error in zip(clean, *corrupt_all(clean, kind), strict=True):
        changed = before != after
        assert (before[changed] == label).all()
        assert (after[changed] == error.parameters["label"]).all()
        np.testing.assert_array_equal(holes(after == label), changed)
        across = np.sqrt(changed.sum() * SPACING**2 / np.pi)
        assert across <= error.parameters["radius"] * 1.4 + SPACING


@pytest.mark.slow
def test_holes_have_the_same_size_in_mm_on_any_grid() -> None:
    phantom, areas = CardiacPhantom(2), []
    for size, spacing in ((128, 1.25), (256, 0.625)):
        frames = np.repeat(phantom.labels(np.zeros(1), (size, size), spacing), 40, axis=0)
        corrupted, _ = corrupt_sequence(frames, spacing, seed=0, rate=1, kinds=["hole_lv"])
        areas.append(np.mean((corrupted != frames).sum((1, 2)) * spacing**2))
    assert areas[0] == pytest.approx(areas[1], rel=0.25)


def test_a_jump_displaces_the_heart_by_its_parameters(clean: np.ndarray) -> None:
    for before, after, error in zip(clean, *corrupt_all(clean, "jump"), strict=True):
        y, x = (np.argwhere(after == 1).mean(axis=0) - np.argwhere(before == 1).mean(axis=0)) * SPACING
        assert (x, y) == pytest.approx((error.parameters["x"], error.parameters["y"]), abs=0.7 * SPACING)
        assert 6.9 < np.hypot(error.parameters["x"], error.parameters["y"]) < 15.1
        assert (after == 1).sum() == (before == 1).sum()


def orientation(labels: np.ndarray) -> float:
    y, x = np.nonzero(labels == 1)
    _, vectors = np.linalg.eigh(np.cov(x, y))
    return float(np.rad2deg(np.arctan(-vectors[0, 1] / vectors[1, 1])))


def test_a_rotation_is_about_the_centre_of_the_heart(clean: np.ndarray) -> None:
    for before, after, error in zip(clean, *corrupt_all(clean, "rotate"), strict=True):
        assert orientation(after) - orientation(before) == pytest.approx(error.parameters["degrees"], abs=1)
        centres = [np.argwhere(np.isin(labels, (1, 2))).mean(axis=0) for labels in (before, after)]
        np.testing.assert_allclose(*centres, atol=0.5)


@pytest.mark.parametrize(("kind", "label"), [("lv_over", 1), ("lv_under", 2)])
def test_only_the_endocardium_moves(clean: np.ndarray, kind: str, label: int) -> None:
    for before, after, error in zip(clean, *corrupt_all(clean, kind), strict=True):
        changed = before != after
        assert (after[changed] == label).all()
        np.testing.assert_array_equal(np.isin(before, (1, 2)), np.isin(after, (1, 2)))
        far = ndimage.distance_transform_edt(before != label, sampling=SPACING)[changed].max()
        assert error.parameters["margin"] - SPACING < far <= error.parameters["margin"]


def test_a_leak_reaches_the_background(clean: np.ndarray) -> None:
    for before, after in zip(clean, corrupt_all(clean, "leak")[0], strict=True):
        changed = before != after
        assert (after[changed] == 1).all()
        assert ((before == 0) & (after == 1)).any()
        assert count_components(after == 1) == 1


def test_a_fragment_is_a_separate_component(clean: np.ndarray) -> None:
    for before, after, error in zip(clean, *corrupt_all(clean, "fragment"), strict=True):
        changed = before != after
        assert (before[changed] == 0).all()
        assert (after[changed] == error.parameters["label"]).all()
        assert count_components(after > 0) == count_components(before > 0) + 1


def test_a_cut_removes_the_apex(clean: np.ndarray) -> None:
    for before, after, error in zip(clean, *corrupt_all(clean, "apex_cut"), strict=True):
        changed = before != after
        assert (after[changed] == 0).all()
        rows = np.nonzero((before == 1).any(axis=1))[0]
        remaining = np.nonzero((after == 1).any(axis=1))[0]
        assert (remaining[0] - rows[0]) / len(rows) == pytest.approx(error.parameters["share"], abs=0.12)
        assert rows[-1] == remaining[-1]
        assert (ndimage.binary_dilation(after == 1) & (after == 0)).any()


def test_the_myocardium_is_missing_on_one_side(clean: np.ndarray) -> None:
    for before, after, error in zip(clean, *corrupt_all(clean, "missing_myo"), strict=True):
        changed = before != after
        assert (before[changed] == 2).all()
        assert (after[changed] == 0).all()
        assert (ndimage.binary_dilation(after == 1) & (after == 0)).any()
        sides = np.argwhere(changed)[:, 1].mean() - np.argwhere(before == 1)[:, 1].mean()
        assert np.sign(sides) == error.parameters["side"]


def test_noise_changes_borders_only(clean: np.ndarray) -> None:
    relative_length = []
    for before, after, error in zip(clean, *corrupt_all(clean, "border_noise"), strict=True):
        border = ndimage.maximum_filter(before, 3) != ndimage.minimum_filter(before, 3)
        far = ndimage.distance_transform_edt(~border, sampling=SPACING)[before != after].max()
        assert far < 6 * error.parameters["size"]
        assert (after == 1).sum() == pytest.approx((before == 1).sum(), rel=0.12)
        edges = [(ndimage.binary_dilation(labels == 1) & (labels != 1)).sum() for labels in (before, after)]
        relative_length.append(edges[1] / edges[0])
    assert min(relative_length) > 1
    assert np.mean(relative_length) > 1.08


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sequence": np.ones((4, 4), np.uint8)}, r"shape \(4, 4\); expected \(T, H, W\)"),
        ({"spacing": 0}, "Got spacing = 0 and rate = 0.5; expected mm above 0, and 0 to 1"),
        ({"rate": 2}, "rate = 2; expected"),
        ({"kinds": ["hole"]}, "Got the error kinds hole; expected some of hole_lv, hole_myo"),
        ({"kinds": []}, "Got the error kinds none; expected some of"),
        ({"sequence": np.ones((1, 4, 4), np.uint8)}, r"Frame 0 has no LV \(1\) or no myocardium \(2\)"),
    ],
)
def test_bad_arguments_are_refused(clean: np.ndarray, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        corrupt_sequence(**{"sequence": clean, "spacing": 1.25, "seed": 0, "rate": 0.5, **arguments})
