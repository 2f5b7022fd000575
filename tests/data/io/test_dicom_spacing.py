"""Distances between pixels and frames that are declared in other ways than PixelSpacing and FrameTime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from helpers.dicom_series import LPS, write_series
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from meddiffusers.data.io import read

UNPLACED = ("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")
ARRAY = np.arange(6 * 5 * 3, dtype=np.int16).reshape(6, 5, 3)
AFFINE = LPS @ np.diag([0.8, 0.9, 3, 1])


def image(folder: Path, frames: int = 1, **elements: Any) -> Path:
    """One slice, or frames of one, without position and spacing."""
    (path,) = write_series(folder, ARRAY[:, :, :1], AFFINE)
    dataset = pydicom.dcmread(path)
    for name in UNPLACED:
        del dataset[name]
    if frames > 1:
        dataset.NumberOfFrames = frames
        dataset.PixelData = np.ascontiguousarray(ARRAY[:, :, :frames].T).tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    return path


def region(x: float, y: float, units: int = 3, **elements: Any) -> Dataset:
    item = Dataset()
    item.PhysicalDeltaX, item.PhysicalDeltaY = x, y
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    for name, value in elements.items():
        setattr(item, name, value)
    return item


@pytest.mark.parametrize(
    ("elements", "spacing", "note"),
    [
        ({}, (1, 1), "no PixelSpacing: pixels are taken as 1 mm wide"),
        ({"PixelAspectRatio": [2, 1]}, (1, 2), "no PixelSpacing: pixels are taken as 1 mm wide"),
        ({"PixelAspectRatio": [10, 20]}, (1, 0.5), "no PixelSpacing: pixels are taken as 1 mm wide"),
        ({"ImagerPixelSpacing": [0.2, 0.1]}, (0.1, 0.2), "no PixelSpacing: lengths are those at the detector"),
        ({"SequenceOfUltrasoundRegions": [region(0.05, 0.02)]}, (0.5, 0.2), ""),
        ({"SequenceOfUltrasoundRegions": [region(0.05, 0.05), region(0.05, 0.05)]}, (0.5, 0.5), ""),
        ({"SequenceOfUltrasoundRegions": [region(0.05, 0.05), region(0.01, 5, 4)]}, (0.5, 0.5), ""),  # and a curve
        ({"SequenceOfUltrasoundRegions": [region(0.05, 0.05), region(1, 1, RegionSpatialFormat=2)]}, (0.5, 0.5), ""),
        (
            {"SequenceOfUltrasoundRegions": [region(0.05, 0.05), region(0.02, 0.02)]},
            (1, 1),
            "2 ultrasound regions with",
        ),
        ({"SequenceOfUltrasoundRegions": [region(0, 0.05)]}, (1, 1), "no PixelSpacing"),
    ],
)
def test_the_spacing_of_an_image_without_pixel_spacing(
    tmp_path: Path, elements: dict[str, Any], spacing: tuple[float, float], note: str
) -> None:
    for frames in (1, 3):
        values = {name: Sequence(value) if "Regions" in name else value for name, value in elements.items()}
        scan = read(image(tmp_path / str(frames), frames, FrameTime=40, **values))
        np.testing.assert_allclose(scan.spacing[:2], spacing)
        assert [each.startswith(note) for each in scan.notes] == [True] * bool(note)


@pytest.mark.parametrize(
    ("elements", "seconds", "note"),
    [
        ({"FrameTime": 40}, 0.04, ""),
        ({"FrameTimeVector": [0, 40, 40]}, 0.04, ""),
        ({"FrameTimeVector": [0, 30, 50]}, 0.04, "frames 30 to 50 ms apart: taken as 40 ms"),
        ({"CineRate": 25}, 0.04, ""),
        ({}, 0, "no FrameTime: the time between frames is unknown"),
    ],
)
def test_the_time_between_frames(tmp_path: Path, elements: dict[str, Any], seconds: float, note: str) -> None:
    scan = read(image(tmp_path, 3, ImagerPixelSpacing=[1, 1], **elements))
    assert scan.time_step == pytest.approx(seconds)
    assert (note in scan.notes) == bool(note)
    assert len(scan.notes) == 1 + bool(note)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("PhotometricInterpretation", ("MONOCHROME1", "MONOCHROME2")),
        ("RescaleType", ("HU", "US")),
        ("PatientID", ("SECRET-1", "SECRET-2")),
    ],
)
def test_slices_that_mean_different_things_are_refused(tmp_path: Path, name: str, values: tuple[str, str]) -> None:
    paths = write_series(tmp_path, ARRAY, AFFINE)
    for path, value in zip(paths, (values[0], values[1], values[0]), strict=True):
        dataset = pydicom.dcmread(path)
        setattr(dataset, name, value)
        dataset.save_as(path)
    with pytest.raises(ValueError, match=rf"slices with 2 values of {name}; expected one for all slices") as error:
        read(tmp_path)
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"EchoTime": 90}, "slices with 2 values of EchoTime: several images may be mixed"),
        (
            {"BurnedInAnnotation": "YES"},
            "texts may be part of the image (BurnedInAnnotation), and may identify the patient",
        ),
    ],
)
def test_doubts_of_a_series_are_noted(tmp_path: Path, changes: dict[str, Any], note: str) -> None:
    paths = write_series(tmp_path, ARRAY, AFFINE)
    assert read(tmp_path).notes == ()
    for path in paths[:1] if "EchoTime" in changes else paths:
        dataset = pydicom.dcmread(path)
        for name, value in changes.items():
            setattr(dataset, name, value)
        dataset.save_as(path)
    assert read(tmp_path).notes == (note,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PixelRepresentation": None}, "a header without PixelRepresentation"),
        ({"PhotometricInterpretation": "FOO"}, "a PhotometricInterpretation that DICOM does not have"),
        ({"PixelAspectRatio": [0, 1], "PixelSpacing": None}, "PixelAspectRatio of 0, 1; expected positive numbers"),
    ],
)
def test_descriptions_of_pixels_that_cannot_be_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = image(tmp_path)
    dataset = pydicom.dcmread(path)
    for name, value in changes.items():
        if value is not None:
            setattr(dataset, name, value)
        elif name in dataset:
            del dataset[name]
    dataset.save_as(path)
    with pytest.raises(ValueError, match=message):
        read(path)
