from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from meddiffusers.data.cardiac_phantom import CardiacPhantom


def level(picture: np.ndarray, mask: np.ndarray) -> float:
    """Mean brightness well inside a mask."""
    return float(picture[ndimage.binary_erosion(mask, iterations=2)].mean())


@pytest.mark.parametrize("view", ["4CH", "2CH"])
def test_the_wall_is_bright_and_blood_is_dark(view: str) -> None:
    for seed in range(8):
        phantom = CardiacPhantom(seed, view)
        phases = np.array([0, phantom.end_systole])
        for picture, labels in zip(phantom.pictures(phases), phantom.labels(phases), strict=True):
            assert level(picture, labels == 2) > level(picture, labels == 1) + 40
            assert level(picture, labels == 2) > level(picture, labels == 3) + 40


def test_outside_of_the_fan_is_black() -> None:
    picture = CardiacPhantom(0).pictures(np.zeros(1))[0]
    rows, columns = np.indices(picture.shape)
    x, y = (columns + 0.5 - 64) * 1.25, (rows + 0.5) * 1.25
    outside = (abs(np.arctan2(x, y)) > 0.76) | (np.hypot(x, y) > 162)
    assert not picture[outside].any()
    assert (picture[~outside] > 0).mean() > 0.8


def test_speckle_widens_with_depth() -> None:
    """Correlation of neighbours along rows, in tissue near the probe and far from it."""
    near, far = [], []
    for seed in range(6):
        picture = CardiacPhantom(seed, "2CH").pictures(np.zeros(1), (320, 320), 0.5)[0].astype(float)
        picture -= ndimage.gaussian_filter(picture, 8)
        for rows, columns, values in ((slice(30, 60), slice(148, 172), near), (slice(250, 290), slice(30, 110), far)):
            block = picture[rows, columns]
            values.append(np.corrcoef(block[:, :-2].ravel(), block[:, 2:].ravel())[0, 1])
    assert np.mean(far) > np.mean(near) + 0.2


def test_speckle_follows_the_wall() -> None:
    """Between two close frames the wall's speckle stays and the blood's is new; far frames share less."""
    phantom = CardiacPhantom(1, "2CH", quality="Good")
    phases = np.array([0.10, 0.105, 0.25])
    pictures, labels = phantom.pictures(phases).astype(float), phantom.labels(phases)
    fine = [picture - ndimage.gaussian_filter(picture, 2) for picture in pictures]

    def alike(label: int, other: int, margin: int = 2) -> float:
        inside = ndimage.binary_erosion((labels[0] == label) & (labels[other] == label), iterations=margin)
        inside[:64] &= label == 2  # reverberation near the probe stays
        return float(np.corrcoef(fine[0][inside], fine[other][inside])[0, 1])

    assert alike(2, 1) > 0.7
    assert alike(1, 1, margin=6) < 0.3
    assert alike(2, 2) < alike(2, 1) - 0.3


def test_a_poor_picture_loses_the_lateral_wall() -> None:
    loss = []
    for seed in range(10):
        levels = []
        for quality in ("Good", "Poor"):
            phantom = CardiacPhantom(seed, quality=quality)
            picture, labels = phantom.pictures(np.zeros(1))[0], phantom.labels(np.zeros(1))[0]
            right = np.indices(labels.shape)[1] > np.argwhere(labels == 1)[:, 1].mean()
            levels.append(level(picture, (labels == 2) & right) - level(picture, (labels == 2) & ~right))
        loss.append(levels[0] - levels[1])
    assert np.mean(loss) > 5


def test_one_seed_gives_one_picture_whatever_the_other_frames() -> None:
    phases = np.array([0, 0.3, 0.7])
    pictures = CardiacPhantom(4).pictures(phases)
    assert pictures.dtype == np.uint8
    np.testing.assert_array_equal(CardiacPhantom(4).pictures(phases[1:2])[0], pictures[1])
    assert (CardiacPhantom(5).pictures(phases[:1]) != pictures[:1]).any()
