from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK
from helpers.dicom_series import LPS, write_series
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from meddiffusers.data.io import read, write
from meddiffusers.data.scan import Scan

ARRAY = np.random.default_rng(0).integers(0, 4000, (6, 5, 4)).astype(np.int16)
AFFINE = LPS @ np.diag([0.8, 0.9, 3, 1])


def sample(name: str) -> str:
    return str(get_testdata_file(name))


def changed(path: Path, **values: Any) -> None:
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


@pytest.mark.parametrize("name", ["MR_small.dcm", "CT_small.dcm", "MR_small_RLE.dcm", "image_dfl.dcm"])
def test_real_files_read_as_itk_reads_them(name: str) -> None:
    found, image = read(sample(name)), SimpleITK.ReadImage(sample(name))
    np.testing.assert_array_equal(found.array[0], SimpleITK.GetArrayFromImage(image).T)
    np.testing.assert_allclose(found.affine[:3, 3], (LPS @ [*image.GetOrigin(), 1])[:3], atol=1e-4)
    in_plane = np.reshape(image.GetDirection(), (3, 3))[:, :2] * image.GetSpacing()[:2]
    np.testing.assert_allclose(found.affine[:3, :2], LPS[:3, :3] @ in_plane, atol=1e-4)


def test_a_series_reads_as_itk_reads_it(tmp_path: Path) -> None:
    write_series(tmp_path, ARRAY, AFFINE)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image, found = reader.Execute(), read(tmp_path)
    np.testing.assert_array_equal(found.array[0], SimpleITK.GetArrayFromImage(image).T)
    np.testing.assert_allclose(found.affine, LPS @ np.diag([*image.GetSpacing(), 1]) + _origin(image), atol=1e-4)


def _origin(image: Any) -> np.ndarray:
    origin = np.zeros((4, 4))
    origin[:3, 3] = LPS[:3, :3] @ image.GetOrigin()
    return origin


def test_rescaling_keeps_integers(tmp_path: Path) -> None:
    for index, (slope, intercept, dtype) in enumerate(
        ((1, 0, np.int16), (1, -1024, np.int16), (20, 5, np.int32), (0.5, 0, np.float32))
    ):
        folder = tmp_path / str(index)
        write_series(folder, ARRAY, AFFINE, RescaleSlope=slope, RescaleIntercept=intercept)
        found = read(folder)
        assert found.array.dtype == dtype
        np.testing.assert_array_equal(found.array[0], ARRAY * float(slope) + intercept)


@pytest.mark.slow
def test_slices_may_differ_in_the_type_of_their_values(tmp_path: Path) -> None:
    files = write_series(tmp_path, np.zeros((5, 4, 3), np.int16), np.diag([1.0, 1, 2, 1]))
    large = np.full((4, 5), 60000, np.uint16)
    changed(files[1], PixelRepresentation=0, PixelData=large.tobytes())
    scan = read(tmp_path)
    assert sorted(np.unique(scan.array).tolist()) == [0, 60000] and (scan.array == 60000).sum() == large.size


@pytest.mark.slow
def test_a_multi_frame_file_is_the_series_it_was_made_of(tmp_path: Path) -> None:
    files = write_series(tmp_path / "series", ARRAY, AFFINE, seed=3)
    datasets = [pydicom.dcmread(file) for file in files]
    enhanced = highdicom.legacy.LegacyConvertedEnhancedMRImage(datasets, generate_uid(), 1, generate_uid(), 1)
    enhanced.save_as(tmp_path / "all.dcm")
    found = read(tmp_path / "all.dcm")
    np.testing.assert_array_equal(found.array[0], ARRAY)
    np.testing.assert_allclose(found.affine, AFFINE, atol=1e-5)
    labels = Scan((ARRAY > 2000).astype(np.uint8), AFFINE, "labels")
    back = read(write(labels, tmp_path / "seg.dcm", series=tmp_path / "all.dcm", names={1: "bright"}))
    np.testing.assert_array_equal(back.array, labels.array)


def segmented(folder: Path) -> Path:
    """A SEG with the labels 1 and 2 on a series."""
    write_series(folder, ARRAY, AFFINE)
    labels = Scan((ARRAY > 2000).astype(np.uint8) + 1, AFFINE, "labels")
    return write(labels, folder.parent / "seg.dcm", series=folder, names={1: "dark", 2: "bright"})


def test_segments_that_overlap_are_refused(tmp_path: Path) -> None:
    path = segmented(tmp_path / "series")
    changed(path, PixelData=b"\xff" * len(pydicom.dcmread(path).PixelData))
    with pytest.raises(ValueError, match="segments that overlap"):
        read(path)


@pytest.mark.parametrize("changes", [{"SegmentDescription": "label 3"}, {"SegmentDescription": "x"}, {"scheme": "SCT"}])
def test_segments_with_two_labels_are_refused(tmp_path: Path, changes: dict[str, str]) -> None:
    path = segmented(tmp_path / "series")
    dataset = pydicom.dcmread(path)
    segment = dataset.SegmentSequence[1]
    segment.SegmentDescription = changes.get("SegmentDescription", segment.SegmentDescription)
    code = segment.SegmentedPropertyTypeCodeSequence[0]
    code.CodingSchemeDesignator = changes.get("scheme", code.CodingSchemeDesignator)
    dataset.save_as(path)
    with pytest.raises(ValueError, match="a segment with two different labels, or none"):
        read(path)


def test_frames_of_a_segmentation_that_make_no_volume_are_refused(tmp_path: Path) -> None:
    path = segmented(tmp_path / "series")
    dataset = pydicom.dcmread(path)
    places = {tuple(g.PlanePositionSequence[0].ImagePositionPatient) for g in dataset.PerFrameFunctionalGroupsSequence}
    last = max(places, key=lambda place: place[2])
    for group in dataset.PerFrameFunctionalGroupsSequence:
        if tuple(group.PlanePositionSequence[0].ImagePositionPatient) == last:
            group.PlanePositionSequence[0].ImagePositionPatient = [*last[:2], last[2] + 1]
    dataset.save_as(path)
    with pytest.raises(ValueError, match="frames that make no volume; expected one frame a segment"):
        read(path)


def test_a_cine_is_frames_of_one_slice(tmp_path: Path) -> None:
    (file,) = write_series(tmp_path, ARRAY[:, :, :1], AFFINE)
    frames = np.ascontiguousarray(ARRAY.T)
    changed(file, NumberOfFrames=4, FrameTime="40", PixelData=frames.tobytes(), SeriesDescription="cine")
    found = read(file)
    assert (found.array.shape, found.time_step, found.modality) == ((4, 6, 5, 1), 0.04, ("cine",) * 4)
    np.testing.assert_array_equal(found.array[..., 0], ARRAY.transpose(2, 0, 1))


def test_colours_are_channels() -> None:
    found = read(sample("SC_rgb_rle.dcm"))
    oracle = pydicom.dcmread(sample("SC_rgb_rle.dcm")).pixel_array
    np.testing.assert_array_equal(found.array[..., 0], oracle.transpose(2, 1, 0))


def test_modalities_come_from_descriptions(tmp_path: Path) -> None:
    (file,) = write_series(tmp_path, ARRAY[:, :, :1], AFFINE, SeriesDescription="T1 tra", ContrastBolusAgent="Gd")
    assert read(file).modality == ("t1ce",)
    changed(file, ContrastBolusAgent="")
    assert read(file).modality == ("t1",)
    assert read(file, modality="pd").modality == ("pd",)
    assert read(sample("CT_small.dcm")).modality == ("ct",)


def _move(files: list[Path], index: int, **values: Any) -> None:
    """Change the slice at that height."""
    by_height = sorted(files, key=lambda file: float(pydicom.dcmread(file).ImagePositionPatient[2]))
    changed(by_height[index], **values)


@pytest.mark.parametrize(
    ("index", "values", "message"),
    [
        (2, {"ImagePositionPatient": [0, 0, 6.1]}, r"uneven gaps: 1× 3 mm, 1× 3.1 mm, 1× 2.9 mm"),
        (3, {"ImagePositionPatient": [0, 0, 12]}, r"uneven gaps: 2× 3 mm, 1× 6 mm"),
        (1, {"ImagePositionPatient": [0, 0, 6]}, "time points, echoes or copies are mixed"),
        (3, {"ImageOrientationPatient": [0, 1, 0, 0, 0, 1]}, "slices in different directions"),
        (1, {"PixelSpacing": [1, 1]}, "slices of different sizes"),
        (1, {"ImagePositionPatient": [5, 0, 3]}, "shifted sideways"),
    ],
)
def test_slices_that_make_no_volume_are_refused(
    tmp_path: Path, index: int, values: dict[str, Any], message: str
) -> None:
    _move(write_series(tmp_path, ARRAY, AFFINE), index, **values)
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_gap_within_one_percent_is_rounding(tmp_path: Path) -> None:
    _move(write_series(tmp_path, ARRAY, AFFINE), 1, ImagePositionPatient=[0, 0, 3.01])
    np.testing.assert_array_equal(read(tmp_path).array[0], ARRAY)


def test_several_series_in_a_folder_are_listed(tmp_path: Path) -> None:
    write_series(tmp_path / "a", ARRAY, AFFINE)
    for file in write_series(tmp_path / "b", ARRAY[:5, :4, :2], AFFINE):
        shutil.copy(file, tmp_path / "a" / f"other{file.name}")
    with pytest.raises(ValueError, match="2 series: 4 files of 6×5 pixels such as 000; 2 files of 5×4 pixels such as"):
        read(tmp_path / "a")


def test_an_unsupported_compression_names_the_package_to_install() -> None:
    with pytest.raises(ValueError, match=r"JPEG Extended.*; expected .* install pylibjpeg"):
        read(sample("JPGExtended.dcm"))
