from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.geometries import CODES, geometries, shapes, where
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor
from monai.transforms import ScaleIntensityRange, SpatialResample
from scipy.ndimage import center_of_mass

from meddiffusers.data.preprocessing.intensities import foreground_window, rescale
from meddiffusers.data.preprocessing.resampling import resample, respacing
from meddiffusers.data.preprocessing.transforms import SAME_SPACING, Preprocessed, Preprocessing
from meddiffusers.data.scan import Scan

few = settings(max_examples=40, deadline=None)


sizes = st.none() | st.tuples(*[st.none() | st.integers(2, 12)] * 3)


def head(shape: tuple[int, ...], affine: np.ndarray, seed: int = 0, dtype: Any = np.int16) -> Scan:
    """Random voxels with some background, one of which at least is not 0."""
    rng = np.random.default_rng(seed)
    array = rng.integers(100, 1000, (2, *shape)) * (rng.random((1, *shape)) < 0.5)
    array[:, shape[0] // 2, :2, :2] = [[[5, 999], [7, 3]]]
    return Scan(array.astype(dtype), affine, ("t1", "t2"), source="head.nii")


def blob(shape: tuple[int, ...], affine: np.ndarray, radius: float) -> Scan:
    """A ball of label 4 around the centre of the grid, with its radius in mm."""
    place = where(affine, shape)
    middle = place.reshape(3, -1).mean(axis=1)[:, None, None, None]
    ball = np.linalg.norm(place - middle, axis=0) < radius
    return Scan(4 * ball.astype(np.uint8), affine, "labels")


def centre(labels: Scan) -> np.ndarray:
    return labels.affine[:3, :3] @ center_of_mass(labels.array[0] > 0) + labels.affine[:3, 3]


def same_place(restored: Scan, original: Scan) -> None:
    assert restored.shape == original.shape
    assert restored.affine.tobytes() == original.affine.tobytes()
    assert restored.orientation == original.orientation


@few
@given(geometries(), shapes, st.sampled_from(CODES), st.integers(0, 9), st.sampled_from([bool, np.uint8, np.int64]))
def test_without_resampling_labels_come_back_exactly(
    affine: np.ndarray, shape: tuple[int, ...], codes: str, seed: int, dtype: Any
) -> None:
    scan = head(shape, affine, seed)
    values = np.random.default_rng(seed).integers(0, 5, (1, *shape)) * scan.array.any(axis=0)
    labels = Scan(values.astype(dtype), affine, "labels")
    preprocessed = Preprocessing(orientation=codes, margin=0)(scan, labels)
    assert preprocessed.labels is not None
    assert preprocessed.image.orientation == preprocessed.labels.orientation == codes
    restored = preprocessed.invert(preprocessed.labels)
    same_place(restored, scan)
    assert restored.array.dtype == dtype
    np.testing.assert_array_equal(restored.array, labels.array)


@few
@given(geometries(), shapes, sizes, st.booleans())
def test_every_prepared_voxel_is_the_voxel_at_its_place(
    affine: np.ndarray, shape: tuple[int, ...], size: Any, crop: bool
) -> None:
    scan = head(shape, affine)
    to_indexed = Scan(np.arange(1, 1 + np.prod(shape)).reshape(shape), affine, "labels")
    preprocessed = Preprocessing(size=size, crop_foreground=crop)(scan, to_indexed)
    assert preprocessed.labels is not None
    if size:
        assert all(expected in (None, got) for expected, got in zip(size, preprocessed.image.shape, strict=True))
    number = preprocessed.labels.array[0]
    here, there = where(preprocessed.image.affine, preprocessed.image.shape), where(affine, shape).reshape(3, -1)
    np.testing.assert_allclose(here[:, number > 0], there[:, number[number > 0] - 1], atol=1e-6)
    intensities = scan.array.reshape(2, -1)[:, number[number > 0] - 1]
    expected = rescale(intensities[..., None, None], preprocessed.windows, (0, 1))[..., 0, 0]
    np.testing.assert_array_equal(preprocessed.image.array[:, number > 0], expected)
    assert (preprocessed.image.array[:, number == 0] == 0).all()


def test_the_crop_holds_the_foreground_of_all_channels_and_its_margin() -> None:
    array = np.zeros((2, 20, 20, 20))
    array[0, 5, 8:10, 3], array[1, 12, 9, 4] = (1, 2), 3
    array[1, 12, 10, 4] = 1
    scan = Scan(array, np.diag([1, 2, 6.5, 1]), "t1")
    preprocessed = Preprocessing(margin=3, percentiles=(0, 100))(scan)
    assert preprocessed.image.shape == (8 + 6, 3 + 2 * 2, 2 + 2 * 1)
    np.testing.assert_allclose(preprocessed.image.affine[:3, 3], [2, 6 * 2, 2 * 6.5])


@few
@given(geometries(), shapes, st.floats(0.4, 4))
@pytest.mark.slow
def test_extent_and_middle_stay(affine: np.ndarray, shape: tuple[int, ...], spacing: float) -> None:
    scan = head(shape, affine)
    preprocessed = Preprocessing(spacing=spacing, crop_foreground=False)(scan).image
    middle, before = (grid.affine @ [*(np.array(grid.shape) - 1) / 2, 1] for grid in (preprocessed, scan))
    np.testing.assert_allclose(middle, before, atol=1e-6)
    longer = np.sort(np.multiply(preprocessed.shape, spacing)) - np.sort(np.multiply(scan.shape, scan.spacing))
    assert (np.abs(longer) <= spacing / 2 + 12 * SAME_SPACING).all() or 1 in preprocessed.shape


def test_cut_and_padding_lie_about_the_middle() -> None:
    preprocessed = Preprocessing(size=(4, 16, None), crop_foreground=False)(head((10, 10, 10), np.eye(4))).image
    assert preprocessed.shape == (4, 16, 10)
    np.testing.assert_array_equal(preprocessed.affine[:3, 3], [3, -3, 0])


@few
@given(geometries(), st.floats(0.8, 2.5))
@pytest.mark.slow
def test_resampled_labels_come_back_to_their_place(affine: np.ndarray, spacing: float) -> None:
    shape = tuple(int(60 / length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    labels = blob(shape, affine, 20)
    scan = Scan(where(affine, shape)[:1] + 300, affine, "t1")
    preprocessed = Preprocessing(spacing=spacing, crop_foreground=False)(scan, labels)
    assert preprocessed.labels is not None
    np.testing.assert_allclose(preprocessed.labels.spacing, spacing, atol=SAME_SPACING)
    assert set(np.unique(preprocessed.labels.array)) == {0, 4}
    coarsest = max(spacing, *scan.spacing)
    assert np.linalg.norm(centre(preprocessed.labels) - centre(labels)) < coarsest / 2
    restored = preprocessed.invert(preprocessed.labels)
    same_place(restored, scan)
    assert set(np.unique(restored.array)) == {0, 4}
    assert np.linalg.norm(centre(restored) - centre(labels)) < coarsest / 2
    both = np.logical_and(restored.array, labels.array).sum()
    assert 2 * both / ((restored.array > 0).sum() + (labels.array > 0).sum()) > 0.9


@pytest.mark.slow
def test_at_common_spacings_dice_is_095_and_more() -> None:
    for old, new in (((0.94, 0.94, 1.2), 1.0), ((1, 1, 1), 1.1), ((0.78, 0.78, 6.5), (1, 1, None)), ((1, 1, 1), 1.5)):
        shape = tuple(int(100 / length) for length in old)
        affine = np.diag([*old, 1.0])
        labels = blob(shape, affine, 25)
        preprocessed = Preprocessing(spacing=new, crop_foreground=False)(head(shape, affine), labels)
        assert preprocessed.labels is not None
        restored = preprocessed.invert(preprocessed.labels).array
        assert 2 * np.logical_and(restored, labels.array).sum() > 0.95 * (
            (restored > 0).sum() + (labels.array > 0).sum()
        )


@few
@given(geometries(), st.floats(0.5, 4), st.integers(0, 2))
@pytest.mark.slow
def test_a_ramp_of_millimetres_stays_one(affine: np.ndarray, spacing: float, axis: int) -> None:
    """The values are the voxels' positions, which reveals errors of the affine or the resampling."""
    shape = (14, 12, 13)
    ramp = Scan(where(affine, shape)[axis] + 500, affine, "t1")
    preprocessed = Preprocessing(spacing=spacing, crop_foreground=False, percentiles=(0, 100), intensity_range=(-1, 1))(
        ramp
    )
    low, high = preprocessed.windows[0]
    values = (preprocessed.image.array[0] + 1) / 2 * (high - low) + low - 500
    mm = where(preprocessed.image.affine, preprocessed.image.shape)
    voxels = np.einsum("ij,jxyz->ixyz", np.linalg.inv(affine)[:3, :3], mm - affine[:3, 3][:, None, None, None])
    inside = np.logical_and.reduce([(v >= 0) & (v <= n - 1) for v, n in zip(voxels, shape, strict=True)])
    assert inside.any()
    np.testing.assert_allclose(values[inside], mm[axis][inside], atol=2e-3)


@pytest.mark.parametrize(
    ("shape", "spacing"), [((9, 8, 1), (0.5, 1.3, 0.4)), ((9, 8, 2), (1.5, 1.5, 2.5)), ((9, 1, 3), (0.7, 2, 0.7))]
)
def test_a_ramp_stays_one_where_an_axis_has_one_voxel(shape: Any, spacing: Any) -> None:
    matrix, new = respacing(shape, np.array(spacing))
    values = resample(where(np.eye(4), shape), matrix, new, nearest=False)
    expected = np.clip(where(matrix, new), 0, np.array(shape)[:, None, None, None] - 1)  # the border goes on outwards
    np.testing.assert_allclose(values, expected, atol=1e-5)


@few
@given(geometries(), st.floats(0.7, 2))
@pytest.mark.slow
def test_a_map_comes_back_linearly(affine: np.ndarray, spacing: float) -> None:
    scan = head((12, 11, 13), affine)
    preprocessed = Preprocessing(spacing=spacing, crop_foreground=False)(scan)
    place = where(preprocessed.image.affine, preprocessed.image.shape)
    restored = preprocessed.invert(preprocessed.image.like(place.astype(np.float32), ("x", "y", "z")))
    same_place(restored, scan)
    assert restored.modality == ("x", "y", "z")
    middle = (slice(None), *[slice(4, -4)] * 3)  # nearer to the border the linear map stops
    np.testing.assert_allclose(restored.array[middle], where(affine, scan.shape)[middle], atol=2e-3)


def test_labels_are_never_interpolated_even_as_floats() -> None:
    scan = head((9, 9, 9), np.eye(4))
    preprocessed = Preprocessing(spacing=0.7)(scan)
    values = np.random.default_rng(0).choice([0.0, 1.0, 4.0], (1, *preprocessed.image.shape))
    assert set(np.unique(preprocessed.invert(preprocessed.image.like(values, "labels")).array)) == {0, 1, 4}
    assert set(np.unique(preprocessed.invert(preprocessed.image.like(values.astype(int), "mask")).array)) == {
        0,
        1,
        4,
    }
    assert len(np.unique(preprocessed.invert(preprocessed.image.like(values, "probability")).array)) > 10


@few
@given(geometries(), st.floats(0.5, 3), st.sampled_from(CODES))
@pytest.mark.slow
def test_it_agrees_with_monai(affine: np.ndarray, spacing: float, codes: str) -> None:
    """MONAI as a reference: scale, then resample in one step to the preprocessed grid given by its affine."""
    scan = head((9, 8, 7), affine)
    preprocessed = Preprocessing(spacing=(spacing, spacing, None), crop_foreground=False, orientation=codes)(scan)
    onto = SpatialResample(mode="bilinear", padding_mode="border", align_corners=False, dtype=np.float64)
    for channel, window, got in zip(scan.array, preprocessed.windows, preprocessed.image.array, strict=True):
        image = MetaTensor(torch.from_numpy(channel[None].astype(np.float64)), affine=torch.from_numpy(affine))
        image = ScaleIntensityRange(*window, 0, 1, clip=True, dtype=np.float64)(image)
        peer = onto(
            image, dst_affine=torch.from_numpy(preprocessed.image.affine), spatial_size=preprocessed.image.shape
        )
        np.testing.assert_allclose(got, peer[0], atol=1e-4)


@given(
    st.integers(0, 99),
    st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64]),
    st.tuples(st.floats(0, 40), st.floats(60, 100)),
)
@few
def test_windows_are_numpys_percentiles(seed: int, dtype: Any, percentiles: tuple[float, float]) -> None:
    rng = np.random.default_rng(seed)
    array = (rng.gamma(2, 30, (5, 6, 7)) - 40 * (np.dtype(dtype).kind != "u")).clip(-200, 200)
    array = (array * (rng.random(array.shape) < 0.7)).astype(dtype)
    array.flat[:2] = 1, 50
    expected = np.percentile(array[array != 0].astype(np.float64), percentiles)
    np.testing.assert_allclose(foreground_window(array, percentiles), expected, rtol=1e-6)
    np.testing.assert_allclose(foreground_window(array.T[:, ::-1], percentiles), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16])
def test_windows_of_short_integers_over_their_whole_range(dtype: Any) -> None:
    limits = np.iinfo(dtype)
    array = np.random.default_rng(0).integers(limits.min, limits.max + 1, (9, 10, 11)).astype(dtype)
    expected = np.percentile(array[array != 0].astype(np.float64), (1, 99))
    np.testing.assert_allclose(foreground_window(array, (1, 99)), expected)


@few
@given(st.tuples(st.floats(-10, 10), st.floats(0.1, 10)), st.integers(0, 9))
def test_intensities_lie_in_the_declared_range(limits: tuple[float, float], seed: int) -> None:
    intensity_range = (limits[0], limits[0] + limits[1])
    scan = head((6, 7, 8), np.eye(4), seed)
    preprocessed = Preprocessing(intensity_range=intensity_range, crop_foreground=False, size=(12, None, None))(scan)
    array = preprocessed.image.array
    assert array.dtype == np.float32
    assert (array.min(), array.max()) == tuple(map(np.float32, intensity_range))
    for channel, values in zip(scan.array, array, strict=True):
        low, high = np.percentile(channel[channel != 0], (1, 99))
        expected = np.clip((channel - low) / (high - low), 0, 1) * limits[1] + limits[0]
        padding = np.full(values.size - channel.size, limits[0])
        np.testing.assert_allclose(np.sort(values.ravel()), np.sort(np.append(expected, padding)), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spacing": 0}, "spacing=0; expected positive numbers"),
        ({"spacing": (1.0, 1.0)}, r"spacing=\(1.0, 1.0\); expected positive numbers for three axes"),
        ({"spacing": float("nan")}, "spacing=nan"),
        ({"size": (8, 8, -1)}, r"size=\(8, 8, -1\)"),
        ({"size": (8, 8, 2.5)}, "expected whole numbers of voxels"),
        ({"margin": -1}, "margin=-1; expected mm, 0 or more"),
        ({"percentiles": (99, 1)}, r"percentiles=\(99, 1\); expected two rising numbers from 0 to 100"),
        ({"percentiles": (0.5, 101)}, "from 0 to 100"),
        ({"intensity_range": (1, 1)}, r"intensity_range=\(1, 1\); expected two finite rising numbers"),
        ({"orientation": "RAR"}, "orientation='RAR'; expected one letter of each of LR, PA and IS"),
        ({"orientation": "RASS"}, "orientation='RASS'"),
    ],
)
def test_settings_are_checked_at_construction(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocessing(**settings)


def test_images_that_cannot_be_scaled_are_named() -> None:
    scan = head((6, 7, 8), np.eye(4), dtype=np.float32)
    broken, empty, flat = (scan.array.copy() for _ in range(3))
    broken[1, 0, 0, :3] = np.nan, np.inf, -np.inf
    empty[0] = 0
    flat[1] = np.where(flat[1] != 0, 7, 0)
    for array, message in (
        (broken, "head.nii, channel t2: 3 of 336 voxels are NaN or infinite"),
        (empty, "head.nii, channel t1: all 336 voxels are 0"),
        (flat, "head.nii, channel t2: percentiles 1 and 99 of the foreground are both 7"),
    ):
        with pytest.raises(ValueError, match=message):
            Preprocessing(crop_foreground=False)(scan.like(array))


def test_grids_that_do_not_fit_are_refused() -> None:
    scan = head((6, 7, 8), np.eye(4))
    shifted = np.eye(4)
    shifted[0, 3] = 1
    with pytest.raises(ValueError, match=r"Labels of \(6, 7, 8\) voxels of seg.nii do not lie on .* of head.nii"):
        Preprocessing()(scan, Scan(np.ones((6, 7, 8)), shifted, "labels", source="seg.nii"))
    preprocessed: Preprocessed = Preprocessing(spacing=2.0)(scan)
    with pytest.raises(ValueError, match=r"Got a scan of \(6, 7, 8\) voxels .* expected the preprocessed grid, \("):
        preprocessed.invert(scan)
    with pytest.raises(ValueError, match="expected the preprocessed grid"):
        preprocessed.invert(replace(preprocessed.image, affine=preprocessed.image.affine + np.diag([0.1, 0, 0, 0])))
