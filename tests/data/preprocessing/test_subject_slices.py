from __future__ import annotations

from dataclasses import replace

import nibabel
import numpy as np
import pytest
from helpers.geometries import where
from scipy.spatial.transform import Rotation

from meddiffusers.data.preprocessing.slices import Plane
from meddiffusers.data.preprocessing.subject_slices import SubjectSlices, subject_slices
from meddiffusers.data.scan import Scan


def grid(codes: str, spacing: tuple[float, float, float], angles: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    """An affine with axes that point to `codes`, turned by `angles`, with spacings along the file's axes."""
    turns = np.zeros((3, 3))
    for axis, code in enumerate(codes):
        turns["LPIRAS".index(code) % 3, axis] = 1 if code in "RAS" else -1
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ turns @ np.diag(spacing)
    affine[:3, 3] = 13, -21, 34
    return affine


GRIDS = {
    "RAS": (grid("RAS", (1, 1, 1)), (66, 78, 60)),
    "LPS": (grid("LPS", (1, 1, 1)), (66, 78, 60)),
    "sagittal": (grid("PIR", (1, 1, 1)), (78, 60, 66)),
    "oblique": (grid("LPS", (1, 1, 1), (12, -8, 17)), (66, 78, 60)),
    "thick": (grid("LAS", (1, 1, 5)), (66, 78, 12)),
    "oblique and thick": (grid("PIR", (1, 1, 3), (-9, 14, 6)), (78, 60, 22)),
}
of_grids = pytest.mark.parametrize("name", GRIDS)


def head(name: str) -> tuple[Scan, np.ndarray]:
    """A t1 of 1 in a head with nothing of symmetry and 2 in its lesion; and the lesion's label, both (X, Y, Z).

    The percentiles of such a scan are 1 and 2, so that its images are the lesion's map.
    """
    affine, shape = GRIDS[name]
    place = where(affine, shape)
    low, high = place.reshape(3, -1).min(axis=1), place.reshape(3, -1).max(axis=1)
    part = (place - low[:, None, None, None]) / (high - low)[:, None, None, None]

    def ball(middle: tuple[float, float, float], radius: tuple[float, float, float]) -> np.ndarray:
        return sum((part[axis] - middle[axis]) ** 2 / radius[axis] ** 2 for axis in range(3)) < 1

    lesion = ball((0.40, 0.60, 0.55), (0.22, 0.20, 0.22)) | ball((0.6, 0.4, 0.4), (0.15, 0.2, 0.2))
    array = ball((0.48, 0.53, 0.52), (0.42, 0.44, 0.41)).astype(np.float32) + lesion
    return Scan(array, affine, "t1", source="head.nii"), lesion


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


def cut_of(scan: Scan, spacing: float, plane: Plane = "axial", size: tuple[int, int] = (112, 120)) -> SubjectSlices:
    return subject_slices(scan, ("t1",), spacing=spacing, size=size, plane=plane)


@of_grids
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_maps_come_back_to_the_bit_at_the_spacing_of_the_file(name: str, plane: Plane) -> None:
    scan, lesion = head(name)
    affine = GRIDS[name][0] / np.array([*scan.spacing, 1])  # with voxels of 1 mm, as the network takes
    scan = Scan(scan.array, affine, "t1")
    cut = cut_of(scan, 1.0, plane)
    restored = cut.invert(cut.images, ("tumour",))
    np.testing.assert_array_equal(restored.array[0], lesion)
    assert restored.affine.tobytes() == scan.affine.tobytes()
    assert restored.modality == ("tumour",)


@of_grids
@pytest.mark.parametrize("spacing", [0.7, 2.0])
def test_maps_come_back_to_their_place_from_another_spacing(name: str, spacing: float) -> None:
    scan, lesion = head(name)
    cut = cut_of(scan, spacing)
    assert cut.images.shape[1:] == (1, 112, 120)
    restored = cut.invert(cut.images, ("tumour",))
    assert restored.shape == scan.shape
    assert dice(restored.array[0] > 0.5, lesion) > 0.97
    assert dice(np.roll(restored.array[0] > 0.5, 1, axis=0), lesion) < 0.97  # so that one voxel aside would show


@of_grids
def test_a_linear_function_of_the_place_survives_both_ways(name: str) -> None:
    """Linear interpolation is exact for it: intensities of the file are found again where no percentile clips them."""
    affine, shape = GRIDS[name]
    place = where(affine, shape)
    values = (900 + 2 * place[0] - 3 * place[1] + 4 * place[2]).astype(np.float32)
    cut = cut_of(Scan(values, affine, "t1"), 1.3)
    low, high = cut.preprocessed.windows[0]
    restored = cut.invert(cut.images, ("t1",)).array[0] * (high - low) + low
    inner = (slice(3, -3),) * 3
    inside = (values > low + 25) & (values < high - 25)
    assert inside[inner].sum() > 1000
    np.testing.assert_allclose(restored[inner][inside[inner]], values[inner][inside[inner]], atol=0.05)


@pytest.mark.slow
def test_images_are_radiological_and_of_the_requested_size() -> None:
    """In each plane a mark at the patient's right, front and top is where radiological convention puts it."""
    for name in ("RAS", "LPS", "sagittal"):
        affine, shape = GRIDS[name]
        place = where(affine, shape)
        middle = place.reshape(3, -1).mean(axis=1)[:, None, None, None]
        array = np.random.default_rng(0).uniform(0.9, 1, shape).astype(np.float32)
        array[np.abs(place - middle - [[[[10]]], [[[12]]], [[[8]]]]).max(axis=0) < 8] = 5
        for plane, (row, column), number in (("axial", (-12, -10), 8), ("coronal", (-8, -10), 12)):
            cut = cut_of(Scan(array, affine, "t1"), 2.0, plane)
            n, _, rows, columns = np.argwhere(cut.images > 0.5).mean(axis=0)
            assert rows - 55.5 == pytest.approx(row / 2, abs=0.6)
            assert columns - 59.5 == pytest.approx(column / 2, abs=0.6)
            count = {"axial": 60, "coronal": 78}[plane]
            assert cut.numbers[0] + n == pytest.approx((count - 1) / 2 + number, abs=0.6)
        cut = cut_of(Scan(array, affine, "t1"), 2.0, "sagittal")
        _, _, rows, columns = np.argwhere(cut.images > 0.5).mean(axis=0)
        assert (rows - 55.5, columns - 59.5) == pytest.approx((-4, -6), abs=0.6)  # top up, front to the left


@of_grids
def test_empty_slices_are_left_out_and_filled(name: str) -> None:
    scan, _ = head(name)
    cut = cut_of(scan, 2.0)
    turned = nibabel.as_closest_canonical(nibabel.Nifti1Image(scan.array[0], scan.affine)).get_fdata()
    shown = np.flatnonzero((turned > 1).any(axis=(0, 1)))  # a head of 1, the first percentile, is black
    assert set(shown) <= set(cut.numbers.tolist())
    assert len(cut.numbers) < turned.shape[2]
    assert cut.images.any(axis=(1, 2, 3)).all()
    maps = np.broadcast_to(np.float32([0.25, 0.75])[:, None, None], (len(cut.numbers), 2, 112, 120))
    restored = cut.invert(maps, ("background", "tumour"), fill=(1, 0))
    assert set(np.unique(restored.array[0].round(4)).tolist()) == {0.25, 1}
    assert set(np.unique(restored.array[1].round(4)).tolist()) == {0.75, 0}
    upright = nibabel.as_closest_canonical(nibabel.Nifti1Image(restored.array[1], restored.affine)).get_fdata()
    np.testing.assert_array_equal(np.flatnonzero((upright > 0.1).any(axis=(0, 1))), cut.numbers)


def test_channels_are_in_the_requested_order_and_missing_ones_are_dark() -> None:
    scan, _ = head("LPS")
    flair = np.where(scan.array > 0, 3 - scan.array, 0)
    both = Scan(np.concatenate([scan.array, flair]), scan.affine, ("t1", "flair"))
    settings = {"spacing": 2.0, "size": (30, 32)}
    cut = subject_slices(both, ("t2", "flair", "t1"), intensity_range=(-1, 1), **settings)
    assert cut.present == ("flair", "t1")
    assert cut.images.dtype == np.float32
    assert (cut.images[:, 0] == -1).all()
    assert (cut.images.min(), cut.images.max()) == (-1, 1)
    alone = subject_slices(both, ("t1",), intensity_range=(-1, 1), **settings)
    np.testing.assert_array_equal(alone.images[:, 0], cut.images[np.isin(cut.numbers, alone.numbers), 2])


def test_the_middle_of_the_foreground_is_the_middle_of_the_image() -> None:
    array = np.zeros((60, 70, 5), np.float32)
    array[40:50, 8:20, 1:4] = np.random.default_rng(0).uniform(5, 9, (10, 12, 3))
    images = cut_of(Scan(array, np.eye(4), "t1"), 1.0, size=(20, 16)).images
    assert len(images) == 3
    rows, columns = np.nonzero(images.any(axis=(0, 1)))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 15, 3, 12)


def test_a_head_that_is_cut_off_is_said(caplog: pytest.LogCaptureFixture) -> None:
    scan, _ = head("sagittal")
    cut_of(scan, 1.0, size=(62, 52))
    assert not caplog.records
    cut_of(scan, 1.0, size=(60, 60))
    assert "head.nii: a head of 68×55 mm is cut off by images of 60×60 mm" in caplog.text


def test_what_cannot_be_cut_is_refused() -> None:
    scan, _ = head("RAS")
    with pytest.raises(ValueError, match="Got t1; expected at least one of flair, t2"):
        subject_slices(scan, ("flair", "t2"), spacing=1.0, size=(32, 32))
    with pytest.raises(ValueError, match="plane='oblique'; expected one of axial, coronal, sagittal"):
        cut_of(scan, 1.0, "oblique")
    with pytest.raises(ValueError, match=r"head.nii, channel t1: 1 of \d+ voxels are NaN or infinite"):
        broken = scan.array.copy()
        broken[0, 3, 3, 3] = np.nan
        cut_of(replace(scan, array=broken), 1.0)
    with pytest.raises(ValueError, match=r"head.nii, channel t1: all \d+ voxels are 0"):
        cut_of(replace(scan, array=0 * scan.array), 1.0)
    cut = cut_of(scan, 1.0)
    with pytest.raises(ValueError, match=r"Got maps of shape \(2, 1, 112, 120\), 1 names and 1 fills; expected \("):
        cut.invert(np.zeros((2, 1, 112, 120), np.float32), ("tumour",))
    with pytest.raises(ValueError, match="1 names and 2 fills"):
        cut.invert(cut.images, ("tumour",), fill=(0, 1))


@of_grids
def test_label_ids_take_the_nearest_pixel_and_keep_their_type(name: str) -> None:
    scan, lesion = head(name)
    cut = cut_of(scan, 1.5)
    ids = (3 * (cut.images > 0.5)).astype(np.uint8)
    restored = cut.invert(ids, ("labels",))
    assert restored.array.dtype == np.uint8 and set(np.unique(restored.array)) == {0, 3}
    assert dice(restored.array[0] == 3, lesion) > 0.93
