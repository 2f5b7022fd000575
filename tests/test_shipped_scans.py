"""Shipped scans: readable, as described in their README, masks on their images, no patient identifiers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nibabel.testing
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.data import get_testdata_file

from meddiffusers.data.io import read, write
from meddiffusers.data.preprocessing.transforms import Preprocessing

SCANS = Path(__file__).parents[1] / "examples" / "scans"
DICOM = sorted(SCANS.rglob("*.dcm"))
# DICOM PS3.15, table E.1-1, and what this project does not need to know of a patient either.
IDENTIFYING = re.compile(
    r"Patient(?!Position|IdentityRemoved)|Physician|Institution|Operator|Station|Accession|Address|Telephone|Date|Time$|"
    r"StudyID|StudyDescription|Device|Requested|Performed|Scheduled|Comments|Person"
)
ACQUISITION = {"RepetitionTime", "EchoTime", "FrameTime", "ImagePositionPatient", "ImageOrientationPatient"}


@pytest.mark.parametrize(
    ("name", "shape", "spacing", "orientation", "modality", "dtype"),
    [
        ("tumour_1_t1ce.nrrd", (256, 256, 25), (0.78125, 0.78125, 6.5), "LAS", "t1ce", np.int16),
        ("tumour_2_t1ce.nrrd", (256, 256, 23), (0.78125, 0.78125, 6.5), "LAS", "t1ce", np.int16),
        ("head_pd", (256, 256, 20), (0.859375, 0.859375, 7.0), "LPS", "pd", np.int16),
        ("heart_cine.dcm", (256, 256, 1), (350 / 256, 350 / 256, 10), "LPS", "cine", np.uint8),
    ],
)
def test_geometry(name: str, shape: Any, spacing: Any, orientation: str, modality: str, dtype: Any) -> None:
    scan = read(SCANS / name)
    assert scan.shape == shape
    np.testing.assert_allclose(scan.spacing, spacing, rtol=2e-3)
    assert scan.orientation == orientation
    assert set(scan.modality) == {modality}
    assert scan.array.dtype == dtype
    Preprocessing()(scan)  # has contrast and no issue


def test_the_series_is_what_simpleitk_reads() -> None:
    """In particular, slices are sorted by position, not by name."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(SCANS / "head_pd")))
    peer = reader.Execute()
    scan = read(SCANS / "head_pd")
    np.testing.assert_array_equal(scan.array[0], SimpleITK.GetArrayFromImage(peer).T)
    np.testing.assert_allclose(scan.affine[:3, 3] * (-1, -1, 1), peer.GetOrigin(), atol=1e-3)
    assert scan.array.mean() == pytest.approx(132.9, abs=50)


@pytest.mark.slow
def test_labels_of_the_series_come_back_on_its_grid(tmp_path: Path) -> None:
    """Although positions are rounded to 0.1 mm, and the declared gap is the empty space between slices."""
    scan = read(SCANS / "head_pd")
    labels = scan.like((scan.array[0] > 200).astype(np.uint8), "labels")
    path = write(labels, tmp_path / "seg.dcm", series=SCANS / "head_pd", names={1: "bright"})
    back = read(path)
    np.testing.assert_allclose(back.affine, scan.affine, atol=1e-3)
    np.testing.assert_array_equal(back.array, labels.array)
    peer = SimpleITK.ReadImage(str(path))
    assert peer.GetSpacing()[2] == pytest.approx(scan.spacing[2], abs=1e-3)
    referenced = {
        item.ReferencedSOPInstanceUID for item in pydicom.dcmread(path).ReferencedSeriesSequence[0][0x0008114A]
    }
    assert referenced == {pydicom.dcmread(file).SOPInstanceUID for file in (SCANS / "head_pd").iterdir()}


def test_the_heart_beats() -> None:
    scan = read(SCANS / "heart_cine.dcm")
    assert len(scan.array) == 16
    assert scan.time_step == pytest.approx(0.06947)
    moving = scan.array[..., 0].std(axis=0)
    assert moving[110:160, 90:160].mean() > 3 * moving[:, 220:].mean()


@pytest.mark.parametrize(("number", "millilitres", "brighter"), [(1, 16.4, 1.2), (2, 1.8, 1.0)])
@pytest.mark.slow
def test_masks_lie_on_their_images(number: int, millilitres: float, brighter: float) -> None:
    image, mask = read(SCANS / f"tumour_{number}_t1ce.nrrd"), read(SCANS / f"tumour_{number}_seg.nrrd")
    assert mask.is_labels
    np.testing.assert_allclose(mask.affine, image.affine)
    assert set(np.unique(mask.array)) == {0, 1}
    inside = mask.array[0] == 1
    assert inside.sum() * mask.voxel_volume / 1000 == pytest.approx(millilitres, abs=0.05)
    around = np.abs(np.argwhere(inside).mean(axis=0) - np.argwhere(np.ones_like(inside))).max(axis=1) < 40
    around = around.reshape(inside.shape) & ~inside & (image.array[0] > 0)
    assert image.array[0][inside].mean() > brighter * np.median(image.array[0][around])


@pytest.mark.parametrize("path", DICOM, ids=lambda path: path.name)
def test_no_file_points_to_a_patient(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    assert dataset.PatientIdentityRemoved == "YES"
    for element in dataset.iterall():
        assert not element.tag.is_private
        if IDENTIFYING.search(element.keyword) and element.keyword not in ACQUISITION:
            assert element.value in ("", None), element.keyword
    assert path.stat().st_size < len(dataset.PixelData) + 3000  # nothing behind the pixels


def test_uids_are_consistent() -> None:
    series = [pydicom.dcmread(path, stop_before_pixels=True) for path in DICOM if path.parent.name == "head_pd"]
    assert len({dataset.SeriesInstanceUID for dataset in series}) == 1
    assert len({dataset.FrameOfReferenceUID for dataset in series}) == 1
    assert len({dataset.SOPInstanceUID for dataset in series}) == len(series) == 20
    assert all(dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID for dataset in series)


def test_every_file_is_accounted_for_and_small() -> None:
    text = (SCANS / "README.md").read_text(encoding="utf-8")
    files = [path for path in SCANS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12e6
    for path in files:
        relative = path.relative_to(SCANS).as_posix()
        assert relative.startswith("head_pd/") or relative == "README.md" or relative in text, relative


def test_small_scans_of_installed_packages() -> None:
    """Paths that the README refers to."""
    head = read(Path(nibabel.testing.data_path) / "anatomical.nii")
    assert head.shape == (33, 41, 25)
    assert head.modality == ("",)
    knee = read(get_testdata_file("MR_small.dcm"))
    assert knee.shape == (64, 64, 1)
    assert read(get_testdata_file("CT_small.dcm")).array.min() == pydicom.dcmread(
        get_testdata_file("CT_small.dcm")
    ).pixel_array.min() + int(pydicom.dcmread(get_testdata_file("CT_small.dcm")).RescaleIntercept)
