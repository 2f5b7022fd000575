from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.evaluation.attributes.traversal import traverse_dimensions

MEANS = np.random.default_rng(0).normal(size=(20, 4))


def bars(latents: np.ndarray) -> np.ndarray:
    """Images (M, 28, 28) of one bar each, 12 + 2·z₀ px wide and 12 − 1.5·z₁ px high, anti-aliased."""
    pixels = np.arange(28)
    columns, rows = (
        np.clip(size[:, None] - pixels, 0, 1) for size in (12 + 2 * latents[:, 0], 12 - 1.5 * latents[:, 1])
    )
    return rows[:, :, None] * columns[:, None, :]


def width_and_height(images: np.ndarray) -> np.ndarray:
    return np.stack([images.sum(axis=2).max(axis=1), images.sum(axis=1).max(axis=1)], axis=1)


def test_each_dimension_moves_its_attribute_alone() -> None:
    traversal = traverse_dimensions(bars, MEANS, width_and_height, dims=2)
    np.testing.assert_allclose(traversal.spearman, [1, -1])
    # From −2σ to 2σ an attribute that is linear in its dimension moves by 4 of its own σ.
    np.testing.assert_allclose(traversal.leakage, [[4, 0], [0, -4]], atol=1e-9)


def test_swapped_dimensions_leak_and_do_not_follow() -> None:
    traversal = traverse_dimensions(lambda z: bars(z[:, [1, 0]]), MEANS, width_and_height, dims=2, span=1)
    np.testing.assert_array_equal(traversal.spearman, [0, 0])
    np.testing.assert_allclose(traversal.leakage, [[0, -2], [2, 0]], atol=1e-9)


def test_images_that_cannot_be_measured_are_left_out() -> None:
    def partly(images: np.ndarray) -> np.ndarray:
        attributes = width_and_height(images)
        attributes[attributes.sum(axis=1) > 27, 0] = np.nan
        return attributes

    unswept = partly(bars(MEANS))[:, 0]
    assert 0 < np.isnan(unswept).sum() < len(MEANS)
    traversal = traverse_dimensions(bars, MEANS, partly, dims=2)
    np.testing.assert_allclose(traversal.spearman, [1, -1])
    change = 4 * 2 * MEANS[:, 0].std()
    np.testing.assert_allclose(traversal.leakage, [[change / np.nanstd(unswept), 0], [0, -4]], atol=1e-9)


@pytest.mark.parametrize(
    ("means", "dims", "message"),
    [
        (MEANS[:1], 2, r"got means of shape \(1, 4\), expected finite \(B, K\) of at least 2 images"),
        (MEANS * np.nan, 2, "expected finite"),
        (MEANS, 5, "got dims=5 for latents of 4 dimensions, expected 1 to 4"),
        (MEANS, 0, "got dims=0 for latents of 4 dimensions"),
    ],
)
def test_bad_means_are_refused(means: np.ndarray, dims: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        traverse_dimensions(bars, means, width_and_height, dims)
