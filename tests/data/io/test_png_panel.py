from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from meddiffusers.data.io import write
from meddiffusers.data.io.label_colours import label_colour
from meddiffusers.data.io.png_panel import CAPTION, GAP, SIDE, scan_panel
from meddiffusers.data.scan import Scan


def corner_scan(flips: tuple[int, int, int] = (1, 1, 1)) -> Scan:
    """20×20×10 voxels of 1×1×2 mm in RAS+, bright in the eighth that lies right, front and up."""
    array = np.zeros((20, 20, 10), np.int16)
    array[::1] = 10
    array[10:, 10:, 5:] = 100
    steps = tuple(slice(None, None, flip) for flip in flips)
    affine = np.diag([1.0 * flips[0], flips[1], 2 * flips[2], 1])
    return Scan(array[steps], affine, "t1")


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (-1, -1, 1)])
def test_right_front_and_up_are_where_they_should_be(flips: tuple[int, int, int]) -> None:
    grey = np.asarray(scan_panel(corner_scan(flips)).convert("L"))[CAPTION:]
    assert grey.shape == (SIDE, 3 * SIDE + 2 * GAP)
    for index in range(3):
        tile = grey[:, index * (SIDE + GAP) : index * (SIDE + GAP) + SIDE]
        quarters = [tile[10:110, 130:230], tile[10:110, 10:110], tile[130:230, 10:110], tile[130:230, 130:230]]
        assert quarters[0].min() > 200
        assert max(quarter.max() for quarter in quarters[1:]) < 50


def test_labels_are_laid_over_in_their_colours() -> None:
    scan = corner_scan()
    labels = scan.like((scan.array[0] == 100).astype(np.uint8) * 2, "labels")
    pixel = np.asarray(scan_panel(scan, labels))[CAPTION + 40, SIDE - 40]
    np.testing.assert_allclose(pixel, 0.55 * 255 + 0.45 * np.array(label_colour(2)), atol=3)
    alone = np.asarray(scan_panel(labels))[CAPTION + 40, SIDE - 40]
    np.testing.assert_array_equal(alone, label_colour(2))


def test_frames_of_a_slice_are_at_most_twelve(tmp_path: Path) -> None:
    scan = Scan(np.random.default_rng(0).random((30, 8, 8, 1)), np.eye(4), "cine")
    with PIL.Image.open(write(scan, tmp_path / "a.png")) as picture:
        assert picture.size == (4 * SIDE + 3 * GAP, 3 * (SIDE + CAPTION))


def test_labels_elsewhere_are_refused() -> None:
    scan = corner_scan()
    with pytest.raises(ValueError, match="expected one grid and place"):
        scan_panel(scan, Scan(scan.array, np.diag([1, 1, 3, 1]), "labels"))
