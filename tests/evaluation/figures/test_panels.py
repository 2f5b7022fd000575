from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
from matplotlib import colormaps
from scipy import ndimage

from meddiffusers.evaluation.figures.panels import heatmap, panel

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def tile(*colour: float) -> np.ndarray:
    """A plain image, (8, 8) or (8, 8, 3)."""
    return np.ones((8, 8, len(colour))) * colour if len(colour) > 1 else np.full((8, 8), colour[0])


def patches(image: PIL.Image.Image, colour: tuple[int, int, int], size: int = 2000) -> list[tuple[float, float]]:
    """Centres (row, column) of the areas of at least `size` pixels of one colour."""
    labels, count = ndimage.label((np.asarray(image) == colour).all(axis=2))
    areas = ndimage.sum_labels(labels > 0, labels, range(1, count + 1))
    large = [index + 1 for index, area in enumerate(areas) if area >= size]
    return ndimage.center_of_mass(labels > 0, labels, large)


def ink(image: PIL.Image.Image) -> int:
    return int((np.asarray(image) < 128).all(axis=2).sum())


def border(image: PIL.Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def test_every_image_is_shown_once_in_its_place() -> None:
    image = panel({"first": [tile(*RED), tile(*GREEN), tile(*RED)], "second": [tile(*BLUE), tile(*GREEN)]})
    red, green, blue = (patches(image, colour) for colour in (RED, GREEN, BLUE))
    assert (len(red), len(green), len(blue)) == (2, 2, 1)
    assert red[0][0] == red[1][0] == green[0][0] < green[1][0] == blue[0][0]
    assert blue[0][1] == red[0][1] < green[0][1] == green[1][1] < red[1][1]


def test_an_image_is_not_turned_over() -> None:
    image = np.zeros((8, 8, 3))
    image[:4, :, 0] = image[4:, :4, 1] = image[4:, 4:, 2] = 1
    [red], [green], [blue] = (patches(panel({"one": [image]}), colour) for colour in (RED, GREEN, BLUE))
    assert red[0] < green[0] == blue[0]
    assert green[1] < red[1] < blue[1]


def test_each_row_spans_black_to_white() -> None:
    rows = {"bytes": [tile(10), tile(15), tile(20)], "floats": [tile(-0.5), tile(0), tile(0.5)]}
    image = panel(rows)
    assert len(patches(image, (0, 0, 0))) == 2
    assert len(patches(image, (127, 127, 127)) + patches(image, (128, 128, 128))) == 2


def test_other_channel_counts_show_the_first_channel() -> None:
    two = np.stack([np.eye(8), np.zeros((8, 8))], axis=2)
    assert panel({"x": [two]}).tobytes() == panel({"x": [np.eye(8)]}).tobytes()
    assert panel({"x": [np.eye(8)[..., None]]}).tobytes() == panel({"x": [np.eye(8)]}).tobytes()


def test_images_keep_their_aspect() -> None:
    image = np.asarray(panel({"x": [np.zeros((8, 16))]}))
    rows, columns = np.nonzero((image[:, 26:] == 0).all(axis=2))
    assert np.ptp(columns) + 1 == pytest.approx(2 * (np.ptp(rows) + 1), abs=1)


def test_titles_add_text_and_nothing_is_cut_off() -> None:
    rows = {"a name of some length, g": [tile(*RED), tile(*RED)]}
    plain, titled = panel(rows), panel(rows, {"a name of some length, g": ["-0.0758 rad", "0.0245 rad"]})
    assert ink(titled) > ink(plain) > 100
    assert titled.height > plain.height
    assert len(patches(titled, RED)) == 2
    assert (border(titled) == 255).all()


def test_a_heatmap_is_coloured_by_sign_about_zero() -> None:
    image = heatmap(np.array([[2.0, 0, -2], [0, 2, 0]]), ["r", "s"], ["a", "b", "c"], down="swept", across="measured")
    darkest_red, darkest_blue, middle = (tuple(colormaps["RdBu_r"](at, bytes=True)[:3]) for at in (1.0, 0.0, 0.5))
    (first, second), [third] = patches(image, darkest_red), patches(image, darkest_blue)
    assert len(patches(image, middle)) == 3
    assert first[0] == pytest.approx(third[0], abs=3)
    assert first[0] < second[0]
    assert first[1] < second[1] < third[1]
    assert (border(image) == 255).all()
