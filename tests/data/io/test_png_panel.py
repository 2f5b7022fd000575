from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pydicom
import pytest

from meddiffusers.data.io import png_panel, read, write
from meddiffusers.data.io.png_panel import CAPTION, GAP, SIDE, scan_panel
from meddiffusers.data.labels import label_colour
from meddiffusers.data.preprocessing.slices import Plane, slices
from meddiffusers.data.scan import Scan

SCANS = Path(__file__).parents[3] / "examples" / "scans"


def corner_scan(flips: tuple[int, int, int] = (1, 1, 1)) -> Scan:
    """20×20×10 voxels of 1×1×2 mm in RAS+, bright in the right, anterior, superior octant."""
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
        quarters = [tile[10:110, 10:110], tile[10:110, 130:230], tile[130:230, 10:110], tile[130:230, 130:230]]
        assert quarters[0].min() > 200
        assert max(quarter.max() for quarter in quarters[1:]) < 50


def test_planes_are_slices_of_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    """With permuted, slightly oblique axes."""
    side = 20
    monkeypatch.setattr(png_panel, "SIDE", side)  # a pixel for each voxel
    array = np.random.default_rng(0).integers(1, 3, (side, side, side)).astype(np.uint8)
    scan = Scan(array, np.array([[0, 0.1, -1, 3], [-1, 0, 0, 4], [0, 1, 0.1, 5], [0, 0, 0, 1]]), "t1")
    grey = np.asarray(scan_panel(scan).convert("L"))[CAPTION:]
    for index, plane in enumerate(get_args(Plane)):
        tile = grey[:, index * (side + GAP) : index * (side + GAP) + side]
        assert (slices(scan, plane).array[:, 0] == 1 + tile // 255).all(axis=(1, 2)).sum() == 1


@pytest.mark.parametrize("name", ["heart_cine.dcm", "echo.nii.gz"])
def test_images_without_a_place_come_out_as_they_are_stored(name: str, tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(1, 3, (SIDE, SIDE)).astype(np.uint8)
    if name.endswith("dcm"):
        path = tmp_path / name
        dataset = pydicom.dcmread(SCANS / name)
        assert "ImagePositionPatient" not in dataset
        dataset.Rows = dataset.Columns = SIDE
        dataset.PixelData = np.stack([stored] * int(dataset.NumberOfFrames)).tobytes()
        dataset.save_as(path)
    else:  # as CAMUS has it: ITK's axes, the beam along the second
        path = write(Scan(stored.T[..., None], np.diag([-1, -1, 1, 1]), "us"), tmp_path / name)
    tile = np.asarray(scan_panel(read(path)).convert("L"))[CAPTION : CAPTION + SIDE, :SIDE]
    np.testing.assert_array_equal(1 + tile // 255, stored)


def test_frames_are_numbered_and_modalities_named(monkeypatch: pytest.MonkeyPatch) -> None:
    captions: list[str] = []
    monkeypatch.setattr(PIL.ImageDraw.ImageDraw, "text", lambda pen, place, text, **_: captions.append(text))
    array = np.random.default_rng(0).random((5, 8, 8, 1))
    scan_panel(Scan(array, np.eye(4), "cine"))
    scan_panel(Scan(array[:2], np.eye(4), ("t1", "t2")))
    scan_panel(Scan(array[:2].repeat(2, axis=3), np.eye(4), "cine"))
    assert captions == [
        "cine   frames 0, 1, 2, 3",
        "cine   frame 4",
        "t1, t2",
        "cine   frame 0   1 x 1 x 1 mm",
        "cine   frame 1   1 x 1 x 1 mm",
    ]


def test_labels_are_laid_over_in_their_colours() -> None:
    scan = corner_scan()
    labels = scan.like((scan.array[0] == 100).astype(np.uint8) * 2, "labels")
    pixel = np.asarray(scan_panel(scan, labels))[CAPTION + 40, 40]
    np.testing.assert_allclose(pixel, 0.55 * 255 + 0.45 * np.array(label_colour(2)), atol=3)
    alone = np.asarray(scan_panel(labels))[CAPTION + 40, 40]
    np.testing.assert_array_equal(alone, label_colour(2))


def test_frames_of_a_slice_are_at_most_twelve(tmp_path: Path) -> None:
    scan = Scan(np.random.default_rng(0).random((30, 8, 8, 1)), np.eye(4), "cine")
    with PIL.Image.open(write(scan, tmp_path / "a.png")) as image:
        assert image.size == (4 * SIDE + 3 * GAP, 3 * (SIDE + CAPTION))


def test_labels_elsewhere_are_refused() -> None:
    scan = corner_scan()
    with pytest.raises(ValueError, match="expected one grid and place"):
        scan_panel(scan, Scan(scan.array, np.diag([1, 1, 3, 1]), "labels"))
