from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

from meddiffusers.evaluation.metrics.overlap import Overlap, overlap


def box(shape: tuple[int, ...], *corners: tuple[int, int], label: int = 1) -> np.ndarray:
    """A label map with one box, from start to end (exclusive) along each axis."""
    image = np.zeros(shape, dtype=np.uint8)
    image[tuple(slice(*corner) for corner in corners)] = label
    return image


def blobs(*shape: int, seed: int) -> np.ndarray:
    """Label maps 0 to 2 with smooth borders."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    smooth = ndimage.gaussian_filter(noise, 1.5)
    return np.digitize(smooth / smooth.std(), (0, 0.8)).astype(np.uint8)


def border(mask: np.ndarray) -> np.ndarray:
    """Places of pixels of the mask that have a neighbour, across a face, outside it or beyond the image."""
    inside = {tuple(place) for place in np.argwhere(mask)}
    steps = [tuple(sign * step) for step in np.eye(mask.ndim, dtype=int) for sign in (-1, 1)]
    return np.array([p for p in sorted(inside) if any(tuple(np.add(p, step)) not in inside for step in steps)])


def by_loops(mask: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...]) -> tuple[float, float, float]:
    a, b = ({tuple(place) for place in np.argwhere(of)} for of in (mask, reference))
    ours, theirs = border(mask) * spacing, border(reference) * spacing
    distances = np.linalg.norm(ours[:, None] - theirs, axis=2)
    hd95 = max(np.percentile(distances.min(axis=axis), 95) for axis in (0, 1))
    return 2 * len(a & b) / (len(a) + len(b)), len(a & b) / len(a | b), hd95


def values(of: Overlap) -> np.ndarray:
    return np.stack([of.dice, of.jaccard, of.hd95])


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 3.0)])
def test_slices_agree_with_loops(spacing: tuple[float, float]) -> None:
    mask, reference = blobs(3, 24, 20, seed=0), blobs(3, 24, 20, seed=1)
    found = values(overlap(mask, reference, (1, 2), spacing))
    assert found.shape == (3, 3, 2)
    for number, label in itertools.product(range(3), (1, 2)):
        expected = by_loops(mask[number] == label, reference[number] == label, spacing)
        assert found[:, number, label - 1] == pytest.approx(expected, rel=1e-5)


def test_a_volume_agrees_with_loops() -> None:
    mask, reference, spacing = blobs(10, 9, 8, seed=0), blobs(10, 9, 8, seed=1), (0.7, 1.0, 2.5)
    found = values(overlap(mask, reference, (1, 2), spacing))
    assert found.shape == (3, 2)
    for label in (1, 2):
        assert found[:, label - 1] == pytest.approx(by_loops(mask == label, reference == label, spacing), rel=1e-5)


def test_the_same_slices_are_one_volume_or_many_images() -> None:
    mask, reference = box((4, 8, 8), (0, 1), (2, 6), (2, 6)), box((4, 8, 8), (3, 4), (2, 6), (2, 6))
    assert overlap(mask, mask, (1,), (1, 1)).dice[:, 0] == pytest.approx([1, np.nan, np.nan, np.nan], nan_ok=True)
    assert overlap(mask, reference, (1,), (6, 1, 1)).hd95 == pytest.approx([18])  # three slices of 6 mm apart


def test_two_squares_are_worked_by_hand() -> None:
    mask, reference = box((1, 20, 20), (0, 1), (5, 15), (2, 12)), box((1, 20, 20), (0, 1), (5, 15), (4, 14))
    found = overlap(mask, reference, (1,), (1, 2.5))
    assert found.dice == pytest.approx(0.8)
    assert found.jaccard == pytest.approx(80 / 120)
    assert found.hd95 == pytest.approx(5)


def test_the_same_map_agrees_fully() -> None:
    labels = blobs(2, 24, 20, seed=3)
    found = overlap(labels, labels, (1, 2), (1, 1))
    assert values(found) == pytest.approx(np.broadcast_to([[[1]], [[1]], [[0]]], (3, 2, 2)))


def test_what_both_lack_does_not_count() -> None:
    empty = np.zeros((1, 8, 8), dtype=np.uint8)
    assert np.isnan(values(overlap(empty, empty, (1,), (1, 1)))).all()


@pytest.mark.parametrize("turned", [False, True])
def test_what_one_lacks_is_as_far_as_can_be(turned: bool) -> None:
    maps = [box((1, 30, 20), (0, 1), (2, 4), (2, 4)), np.zeros((1, 30, 20), dtype=np.uint8)]
    found = overlap(*(maps[::-1] if turned else maps), (1,), (1, 2))
    assert values(found).ravel() == pytest.approx([0, 0, 50])


def test_classes_are_measured_apart_and_the_foreground_at_once() -> None:
    mask, reference = (box((1, 8, 8), (0, 1), (2, 6), (2, 6), label=label) for label in (1, 2))
    assert overlap(mask, reference, (1, 2), (1, 1)).dice.tolist() == [[0, 0]]
    assert overlap(mask > 0, reference > 0, (1,), (1, 1)).dice.tolist() == [[1]]


def test_parts_of_it_can_be_taken_and_left_out() -> None:
    found = overlap(blobs(3, 24, 20, seed=0), blobs(3, 24, 20, seed=1), (1, 2), (1, 1))
    np.testing.assert_array_equal(found[:, 1].hd95, found.hd95[:, 1])
    left = found[:, 1].where(np.array([True, False, True]))
    np.testing.assert_array_equal(values(left)[:, 1], np.nan)
    np.testing.assert_array_equal(values(left)[:, ::2], values(found)[:, ::2, 1])


@pytest.mark.parametrize(
    ("shapes", "spacing", "message"),
    [
        (((2, 8, 8), (2, 8, 9)), (1, 1), r"mask of shape \(2, 8, 8\), a reference of shape \(2, 8, 9\)"),
        (((8, 8), (8, 8)), (1, 1, 1), r"spacing \(1, 1, 1\); expected one shape, \(B, H, W\) with two spacings"),
        (((2, 8, 8), (2, 8, 8)), (1, 0), r"spacing \(1, 0\); expected the edge lengths of a pixel, mm, above 0"),
    ],
)
def test_other_maps_are_refused(shapes: tuple, spacing: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        overlap(*(np.ones(shape, dtype=np.uint8) for shape in shapes), (1,), spacing)
