"""DICOM files that lack something, series that break off, rounded positions, and volumes in one enhanced file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from helpers.dicom_series import LPS, write_series
from pydicom.data import get_testdata_file
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, generate_uid

from meddiffusers.data.io import read

ARRAY = np.random.default_rng(0).integers(0, 4000, (6, 5, 4)).astype(np.int16)
AFFINE = LPS @ np.diag([0.8, 0.9, 3, 1])


def changed(path: Path, **values: Any) -> Path:
    """Change elements, or remove those that are None; text is stored as it is."""
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        tag = Tag(keyword)
        if value is None:
            dataset.pop(tag, None)
        elif isinstance(value, bytes):
            padded = value + b" " * (len(value) % 2)
            dataset[tag] = RawDataElement(tag, dataset[tag].VR, len(padded), padded, 0, False, True, True)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


def one_slice(folder: Path, **values: Any) -> Path:
    (path,) = write_series(folder, ARRAY[:, :, :1], AFFINE)
    return changed(path.rename(folder / "a.dcm"), **values)


def check_refused(path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)
    assert "expected" in str(error.value)


def stripped(path: Path, syntax: Any, preamble: bool = False) -> None:
    """Rewrite a file without file meta, and without preamble by default."""
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = syntax.is_little_endian, syntax.is_implicit_VR
    dataset = pydicom.dcmread(path)
    if not syntax.is_little_endian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
    pydicom.filewriter.write_dataset(stream, dataset)
    path.write_bytes((b"\0" * 128 + b"DICM" if preamble else b"") + stream.getvalue())


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("preamble", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_files_without_preamble_or_file_meta(tmp_path: Path, syntax: Any, preamble: bool, named: bool) -> None:
    for path in write_series(tmp_path, ARRAY, AFFINE):
        stripped(path, syntax, preamble)
        if named:
            path.rename(path.with_suffix(".dcm"))
    scan = read(tmp_path)
    np.testing.assert_array_equal(scan.array[0], ARRAY)
    np.testing.assert_allclose(scan.affine, AFFINE, atol=1e-6)
    one = next(tmp_path.iterdir())
    assert read(one).array.shape == (1, 6, 5, 1)


def test_big_endian_without_file_meta(tmp_path: Path) -> None:
    path = one_slice(tmp_path)
    stripped(path, ExplicitVRBigEndian)
    np.testing.assert_array_equal(read(path).array[0], ARRAY[:, :, :1])


def test_a_missing_transfer_syntax_is_guessed_unless_pixels_are_compressed(tmp_path: Path) -> None:
    path = one_slice(tmp_path)
    dataset = pydicom.dcmread(path)
    del dataset.file_meta.TransferSyntaxUID
    dataset.save_as(path, implicit_vr=False, little_endian=True)
    np.testing.assert_array_equal(read(path).array[0], ARRAY[:, :, :1])
    packed = pydicom.dcmread(one_slice(tmp_path / "packed"))
    packed.compress(RLELossless, encoding_plugin="pydicom")
    packed.save_as(tmp_path / "packed.dcm")
    data = (tmp_path / "packed.dcm").read_bytes()
    place = data.index(b"\x02\x00\x10\x00UI")
    size = 8 + int.from_bytes(data[place + 6 : place + 8], "little")
    length = int.from_bytes(data[140:144], "little") - size
    without = data[:140] + length.to_bytes(4, "little") + data[144:place] + data[place + size :]
    (tmp_path / "packed.dcm").write_bytes(without)
    check_refused(tmp_path / "packed.dcm", "compressed pixels and no TransferSyntaxUID")


@pytest.mark.parametrize("kept", [0, 1, 60, 140, 200, 400, 700, 1000, 1500])
@pytest.mark.parametrize("suffix", ["", ".dcm"])
def test_an_outermost_slice_that_breaks_off_is_not_dropped(tmp_path: Path, kept: int, suffix: str) -> None:
    files = [file.rename(file.with_suffix(suffix)) for file in write_series(tmp_path, ARRAY, AFFINE)]
    last = max(files, key=lambda file: float(pydicom.dcmread(file).ImagePositionPatient[2]))
    last.write_bytes(last.read_bytes()[:kept])
    with pytest.raises(ValueError, match="expected"):
        read(tmp_path)


def test_other_files_beside_a_series_do_not_matter(tmp_path: Path) -> None:
    write_series(tmp_path, ARRAY, AFFINE)
    (tmp_path / "VERSION").write_text("text " * 40)
    (tmp_path / "notes.txt").write_bytes(b"")
    (tmp_path / "index.json").write_bytes(b"\0")
    report = pydicom.dcmread(str(get_testdata_file("reportsi.dcm")))
    assert "Rows" not in report
    report.save_as(tmp_path / "report.dcm")
    np.testing.assert_array_equal(read(tmp_path).array[0], ARRAY)


@pytest.mark.parametrize("gap", [0.625, 0.75, 1.25])
def test_positions_may_be_rounded_to_a_tenth_of_a_millimetre(tmp_path: Path, gap: float) -> None:
    array = np.random.default_rng(0).integers(0, 4000, (6, 5, 9)).astype(np.int16)
    files = write_series(tmp_path, array, LPS @ np.diag([0.8, 0.9, gap, 1]))
    for file in files:
        place = [float(value) for value in pydicom.dcmread(file).ImagePositionPatient]
        changed(file, ImagePositionPatient=[f"{value:.1f}" for value in place])
    scan = read(tmp_path)
    np.testing.assert_array_equal(scan.array[0], array)
    assert abs(scan.spacing[2] - gap) < 0.1 / 8
    middle = sorted(files, key=lambda file: float(pydicom.dcmread(file).ImagePositionPatient[2]))[4]
    middle.unlink()
    check_refused(tmp_path, "uneven gaps")


def enhanced(path: Path, volumes: int, shuffled: bool = True, dimensions: bool = True) -> np.ndarray:
    """An enhanced file with several volumes at the same positions; returns (volumes, X, Y, Z)."""
    files = write_series(path.parent / "series", ARRAY, AFFINE, seed=3)
    datasets = [pydicom.dcmread(file) for file in files]
    file = highdicom.legacy.LegacyConvertedEnhancedMRImage(datasets, generate_uid(), 1, generate_uid(), 1)
    arrays = np.stack([ARRAY // (number + 1) for number in range(volumes)])
    groups, frames = [], []
    for index, group in enumerate(file.PerFrameFunctionalGroupsSequence):
        for number in range(volumes):
            copy = Dataset.from_json(group.to_json())
            copy.FrameContentSequence[0].DimensionIndexValues = [number + 1, index + 1]
            copy.FrameContentSequence[0].TemporalPositionIndex = number + 1
            groups.append(copy)
            frames.append(file.pixel_array[index] // (number + 1))
    order = np.random.default_rng(0).permutation(len(groups)) if shuffled else range(len(groups))
    file.PerFrameFunctionalGroupsSequence = [groups[index] for index in order]
    file.NumberOfFrames = len(groups)
    file.PixelData = np.stack([frames[index] for index in order]).astype(np.int16).tobytes()
    pointers = [(0x00209128, 0x00209111), (0x00209057, 0x00209111)]  # TemporalPositionIndex, InStackPositionNumber
    file.DimensionIndexSequence = [Dataset() for _ in pointers]
    for item, (pointer, group_pointer) in zip(file.DimensionIndexSequence, pointers, strict=True):
        item.DimensionIndexPointer, item.FunctionalGroupPointer = pointer, group_pointer
    if not dimensions:
        del file.DimensionIndexSequence
    file.save_as(path)
    return arrays


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [True, False])
def test_volumes_of_an_enhanced_file_are_chosen_by_number(tmp_path: Path, dimensions: bool) -> None:
    arrays = enhanced(tmp_path / "a.dcm", 3, dimensions=dimensions)
    for number in range(3):
        scan = read(tmp_path / "a.dcm", volume=number)
        np.testing.assert_array_equal(scan.array[0], arrays[number])
        np.testing.assert_allclose(scan.affine, AFFINE, atol=1e-5)
    check_refused(tmp_path / "a.dcm", r"3 volume\(s\) \(0: TemporalPositionIndex 1; 1: .* read\(path, volume=0\)")
    with pytest.raises(ValueError, match=r"3 volume\(s\)"):
        read(tmp_path / "a.dcm", volume=3)


def test_a_volume_is_chosen_of_dicom_alone(tmp_path: Path) -> None:
    path = one_slice(tmp_path)
    assert read(path, volume=0).array.shape == (1, 6, 5, 1)
    with pytest.raises(ValueError, match=r"1 volume\(s\)"):
        read(path, volume=1)
    (tmp_path / "a.nii").write_bytes(b"")
    with pytest.raises(ValueError, match="volume=1; expected it with DICOM alone"):
        read(tmp_path / "a.nii", volume=1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"PixelSpacing": b""}, "a position, but no PixelSpacing"),
        ({"PixelSpacing": None}, "a position, but no PixelSpacing"),
        ({"PixelSpacing": b"0,8\\0,8"}, "PixelSpacing with a decimal comma"),
        ({"PixelSpacing": b"0.8"}, "PixelSpacing of 0.8; expected 2 finite numbers"),
        ({"PixelSpacing": b"nan\\0.8"}, "PixelSpacing of nan"),
        ({"SliceThickness": b"3,0"}, "SliceThickness with a decimal comma"),
        ({"SliceThickness": b"thin"}, "SliceThickness with text that is no number"),
        ({"SliceThickness": b"1e38"}, r"1e\+38"),
        ({"ImageOrientationPatient": None}, "a position, but no ImageOrientationPatient"),
        ({"RescaleSlope": "0", "RescaleIntercept": "0"}, "a RescaleSlope of 0"),
        ({"RescaleSlope": "1e300", "RescaleIntercept": "0"}, r"values up to .*e\+30. by its slope and intercept"),
        ({"RescaleSlope": "1", "RescaleIntercept": b"nan"}, "RescaleIntercept of nan"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}, "a Siemens mosaic"),
        ({"HighBit": 11}, "of which bit 11 is the highest"),
        ({"BitsAllocated": None, "SamplesPerPixel": None}, "a header without BitsAllocated, SamplesPerPixel"),
    ],
)
def test_values_that_are_no_values_are_refused(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    path = one_slice(tmp_path)
    if "RescaleSlope" in values:
        changed(path, RescaleSlope="1", RescaleIntercept="0")
    check_refused(changed(path, **values), message)


def test_what_a_single_slice_leaves_open_is_noted(tmp_path: Path) -> None:
    scan = read(one_slice(tmp_path, SliceThickness=None, SpacingBetweenSlices=None, ImagePositionPatient=None))
    assert scan.notes == ("no SliceThickness: taken as 1 mm", "no ImagePositionPatient: the position is a guess")


def test_a_decoder_is_named_only_where_it_is_missing(tmp_path: Path) -> None:
    path = one_slice(tmp_path)
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless, encoding_plugin="pydicom")
    dataset.PixelData = encapsulate([b"\xff" * 70])
    dataset.save_as(path)
    check_refused(path, "pixels that cannot be decoded; expected those of RLE Lossless")
    damaged = pydicom.dcmread(str(get_testdata_file("SC_rgb_jpeg_gdcm.dcm")))
    check_refused_after(damaged, tmp_path / "jpeg.dcm", "install pylibjpeg|pixels that cannot be decoded")


def check_refused_after(dataset: Any, path: Path, message: str) -> None:
    dataset.PixelData = dataset.PixelData[:60] + bytes(40) + dataset.PixelData[100:]
    dataset.save_as(path)
    check_refused(path, message)


def test_images_of_floats_have_no_bits_stored(tmp_path: Path) -> None:
    path = one_slice(tmp_path, PixelData=None, BitsStored=None, HighBit=None, PixelRepresentation=None)
    dataset = pydicom.dcmread(path)
    values = np.random.default_rng(0).random((5, 6)).astype(np.float32)
    dataset.BitsAllocated, dataset.FloatPixelData = 32, values.tobytes()
    dataset.save_as(path)
    np.testing.assert_array_equal(read(path).array[0, :, :, 0], values.T)


def test_scaled_integers_stay_exact(tmp_path: Path) -> None:
    path = one_slice(tmp_path, PixelRepresentation=0, BitsAllocated=32, BitsStored=32, HighBit=31)
    dataset = pydicom.dcmread(path)
    values = np.random.default_rng(0).integers(2**32 - 99, 2**32, (5, 6)).astype(np.uint32)
    dataset.PixelData, dataset.RescaleSlope, dataset.RescaleIntercept = values.tobytes(), "1", "-1"
    dataset.save_as(path)
    np.testing.assert_array_equal(read(path).array[0, :, :, 0], values.T.astype(np.int64) - 1)
