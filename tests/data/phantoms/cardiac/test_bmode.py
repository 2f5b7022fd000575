from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from meddiffusers.data.phantoms.cardiac import CardiacPhantom


def level(image: np.ndarray, mask: np.ndarray) -> float:
    """Mean brightness in the interior of a mask."""
    return float(image[ndimage.binary_erosion(mask, iterations=2)].mean())


@pytest.mark.parametrize("view", ["4CH", "2CH"])
@pytest.mark.slow
def test_the_myocardium_is_bright_and_blood_is_dark(view: str) -> None:
    for seed in range(8):
        phantom = CardiacPhantom(seed, view)
        phases = np.array([0, phantom.end_systole])
        for image, labels in zip(phantom.images(phases), phantom.labels(phases), strict=True):
            assert level(image, labels == 2) > level(image, labels == 1) + 40
            assert level(image, labels == 2) > level(image, labels == 3) + 40


def test_outside_the_sector_is_black() -> None:
    image = CardiacPhantom(0).images(np.zeros(1))[0]
    rows, columns = np.indices(image.shape)
    x, y = (columns + 0.5 - 64) * 1.25, (rows + 0.5) * 1.25
    outside = (abs(np.arctan2(x, y)) > 0.76) | (np.hypot(x, y) > 162)
    assert not image[outside].any()
    assert (image[~outside] > 0).mean() > 0.8


@pytest.mark.slow
def test_speckle_widens_with_depth() -> None:
    """Correlation of pixels along rows, in tissue near the probe and far from it."""
    near, far = [], []
    for seed in range(6):
        image = CardiacPhantom(seed, "2CH").images(np.zeros(1), (320, 320), 0.5)[0].astype(float)
        image -= ndimage.gaussian_filter(image, 8)
        for rows, columns, values in ((slice(30, 60), slice(148, 172), near), (slice(250, 290), slice(30, 110), far)):
            block = image[rows, columns]
            values.append(np.corrcoef(block[:, :-2].ravel(), block[:, 2:].ravel())[0, 1])
    assert np.mean(far) > np.mean(near) + 0.2


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_speckle_moves_with_the_myocardium(seed: int) -> None:
    """Block matching in the middle of the right wall agrees with the outlines to about 1 mm."""
    phantom, spacing, half = CardiacPhantom(seed, "2CH", quality="Good"), 0.5, 9
    phases = np.array([0.12, 0.22])
    first, second = phantom.images(phases, (320, 320), spacing).astype(float)
    lines = phantom.outlines(phases)
    middle = (lines.endocardium[:, 174] + lines.epicardium[:, 186]) / 2
    column, row = np.rint(middle[0] / spacing + [159.5, -0.5]).astype(int)
    block = first[row - half : row + half + 1, column - half : column + half + 1].ravel()
    correlation = {}
    for dy in range(-12, 13):
        for dx in range(-12, 13):
            there = second[row + dy - half : row + dy + half + 1, column + dx - half : column + dx + half + 1]
            correlation[dx, dy] = np.corrcoef(block, there.ravel())[0, 1]
    shift = max(correlation, key=lambda each: correlation[each])
    assert correlation[shift] > 0.7
    np.testing.assert_allclose(np.array(shift) * spacing, middle[1] - middle[0], atol=1.3)
    assert np.hypot(*shift) * spacing > 1.5


def test_speckle_of_blood_is_uncorrelated_over_time() -> None:
    """Far from the probe, where there is no reverberation."""
    phantom = CardiacPhantom(1, "2CH", quality="Good")
    phases = np.array([0.10, 0.105])
    (first, second), labels = phantom.images(phases).astype(float), phantom.labels(phases)

    def correlation(label: int, margin: int) -> float:
        inside = ndimage.binary_erosion((labels == label).all(axis=0), iterations=margin)
        inside[:64] = False
        fine = [image - ndimage.gaussian_filter(image, 2) for image in (first, second)]
        return float(np.corrcoef(fine[0][inside], fine[1][inside])[0, 1])

    assert correlation(2, margin=2) > 0.9
    assert correlation(1, margin=6) < 0.5


@pytest.mark.slow
def test_the_lateral_wall_is_dark_in_poor_images() -> None:
    attenuation = []
    for seed in range(10):
        levels = []
        for quality in ("Good", "Poor"):
            phantom = CardiacPhantom(seed, quality=quality)
            image, labels = phantom.images(np.zeros(1))[0], phantom.labels(np.zeros(1))[0]
            right = np.indices(labels.shape)[1] > np.argwhere(labels == 1)[:, 1].mean()
            levels.append(level(image, (labels == 2) & right) - level(image, (labels == 2) & ~right))
        attenuation.append(levels[0] - levels[1])
    assert np.mean(attenuation) > 5


def test_one_seed_gives_one_image_whatever_the_other_frames() -> None:
    phases = np.array([0, 0.3, 0.7])
    images = CardiacPhantom(4).images(phases)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(CardiacPhantom(4).images(phases[1:2])[0], images[1])
    assert (CardiacPhantom(5).images(phases[:1]) != images[:1]).any()
