"""NIfTI pairs, and headers with fields that the standard and nibabel repair, that conflict, or that must be refused."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from helpers.second_reader import read_with_nibabel
from nibabel.affines import from_matvec
from scipy.spatial.transform import Rotation

from meddiffusers.data.inspection import inspect_scan
from meddiffusers.data.io import read

ARRAY = np.random.default_rng(0).integers(-900, 900, (6, 5, 4)).astype(np.int16)
AFFINE = from_matvec(
    Rotation.from_euler("xyz", (8, -5, 12), degrees=True).as_matrix() * (-0.8, 0.9, 2.5), (31, 42, -17)
)
SINGLE, SHORT = "<f", "<h"
QFORM_CODE, SFORM_CODE, PIXDIM, UNITS, SROW_X = 252, 254, 76, 123, 280


def saved(path: Path, codes: tuple[int, int] = (1, 1), kind: Any = nibabel.Nifti1Image) -> Path:
    """A file with these codes of qform and sform; code 0 leaves out the form."""
    image = kind(ARRAY, AFFINE)
    for code, setter in zip(codes, (image.set_qform, image.set_sform), strict=True):
        setter(AFFINE if code else None, code)
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return path


def edited(path: Path, *fields: tuple[int, str, float]) -> Path:
    data = bytearray(path.read_bytes())
    for place, kind, value in fields:
        struct.pack_into(kind, data, place, value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.Nifti2Pair])
@pytest.mark.parametrize("opened", [".hdr", ".img"])
def test_pairs(tmp_path: Path, kind: Any, opened: str) -> None:
    scan = read(saved(tmp_path / "t1.hdr", kind=kind).with_suffix(opened))
    np.testing.assert_array_equal(scan.array[0], ARRAY)
    np.testing.assert_allclose(scan.affine, AFFINE, atol=1e-5)
    assert (scan.modality, scan.notes) == (("t1",), ())


def test_compressed_pairs(tmp_path: Path) -> None:
    saved(tmp_path / "a.hdr", kind=nibabel.Nifti1Pair)
    for name in ("a.hdr", "a.img"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
        (tmp_path / name).unlink()
    for name in ("a.hdr.gz", "a.img.gz"):
        np.testing.assert_array_equal(read(tmp_path / name).array[0], ARRAY)
    (tmp_path / "a.hdr.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.hdr\.gz is missing; expected the files"):
        read(tmp_path / "a.img.gz")


@pytest.mark.parametrize(
    ("codes", "fields", "note"),
    [
        ((1, 0), [(PIXDIM, SINGLE, 0)], r"pixdim\[0\] is 0: taken as 1"),
        ((1, 0), [(PIXDIM + 8, SINGLE, -0.9)], r"pixdim\[2\] is -0.9: its sign is dropped"),
        ((1, 0), [(PIXDIM + 12, SINGLE, 0)], r"pixdim\[3\] is 0: taken as 1 mm"),
        ((0, 0), [(PIXDIM + 4, SINGLE, -0.8)], r"pixdim\[1\] is -0.8"),
        ((1, 1), [(UNITS, "<b", 7)], "the unit of length has the code 7"),
        ((1, 0), [(QFORM_CODE, SHORT, 99)], "qform_code 99"),
        ((0, 1), [(SFORM_CODE, SHORT, -3)], "sform_code -3"),
        ((1, 1), [(SFORM_CODE, SHORT, 99)], "sform_code 99"),
        ((0, 0), [], "neither qform nor sform"),
    ],
)
def test_what_nibabel_repairs_is_repaired_with_a_note(
    tmp_path: Path, codes: tuple[int, int], fields: list[tuple[int, str, float]], note: str
) -> None:
    path = edited(saved(tmp_path / "a.nii", codes), *fields)
    array, affine = read_with_nibabel(path)
    scan, image = read(path), read(nibabel.load(path))
    np.testing.assert_array_equal(scan.array, array)
    np.testing.assert_allclose(scan.affine, affine, atol=1e-5)
    assert any(note.replace("\\", "") in each for each in scan.notes), scan.notes
    np.testing.assert_array_equal(image.affine, scan.affine)
    assert image.notes == scan.notes
    assert inspect_scan(path)[0].notes == scan.notes


def test_qform_and_sform_that_conflict_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = edited(saved(tmp_path / "a.nii"), (268, SINGLE, 71.0))  # qoffset_x
    scan = read(path)
    np.testing.assert_allclose(scan.affine, AFFINE, atol=1e-5)
    assert scan.notes == ("qform (code 1) and sform place voxels up to 40 mm apart: the sform (code 1) is used",)
    assert scan.notes[0] in caplog.text
    assert inspect_scan(path)[0].notes == scan.notes
    invalid = edited(saved(tmp_path / "b.nii"), (256, SINGLE, 3.0))  # quatern_b
    assert read(invalid).notes == ("an invalid qform (code 1): the sform (code 1) is used",)


def test_valid_headers_have_no_notes(tmp_path: Path) -> None:
    for codes in ((1, 1), (1, 0), (0, 1), (1, 4)):
        assert read(saved(tmp_path / f"{codes[0]}{codes[1]}.nii", codes)).notes == ()
    turned = saved(tmp_path / "turned.nii", (1, 0))
    edited(turned, *((256 + 4 * index, SINGLE, value) for index, value in enumerate((0.8000003, 0.6, 0.0))))
    assert read(turned).notes == ()  # a quaternion of length 1.0000003


@pytest.mark.parametrize(
    ("codes", "fields", "message"),
    [
        ((0, 1), [(SROW_X, SINGLE, 1e38)], r"voxels of 1e\+38 × 0.9 × 2.5 mm"),
        ((0, 1), [(SROW_X + 12, SINGLE, 1e38)], r"1e\+38 mm from the origin"),
        ((0, 1), [(SROW_X, SINGLE, float("nan"))], "finite"),
        ((0, 0), [(PIXDIM + 12, SINGLE, 0)], r"pixdim\[3\] of 0"),
        ((1, 0), [(PIXDIM + 12, SINGLE, float("nan"))], r"pixdim\[3\] of nan"),
        ((1, 0), [(PIXDIM, SINGLE, -0.5)], r"pixdim\[0\] of -0.5"),
        ((1, 0), [(256, SINGLE, 3.0)], "a qform that is no rotation"),
        ((1, 1), [(UNITS, "<b", 1)], "voxels of 800 × 900"),
        ((1, 1), [(112, SINGLE, float("inf"))], "a slope of inf"),
        ((1, 1), [(112, SINGLE, 2.0), (116, SINGLE, float("nan"))], "an intercept of nan"),
        ((1, 1), [(112, SINGLE, 3e38)], "infinite voxels"),
    ],
)
def test_what_cannot_be_repaired_is_refused(
    tmp_path: Path, codes: tuple[int, int], fields: list[tuple[int, str, float]], message: str
) -> None:
    path = edited(saved(tmp_path / "a.nii", codes), *fields)
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)
    assert "expected" in str(error.value)


def test_an_edited_nibabel_image_keeps_its_edits(tmp_path: Path) -> None:
    image: Any = nibabel.load(saved(tmp_path / "a.nii"))
    moved = AFFINE + np.eye(4, k=3) * 5
    changed = nibabel.Nifti1Image(image.dataobj, moved, image.header)
    changed.set_filename(tmp_path / "a.nii")
    np.testing.assert_allclose(read(changed).affine, moved, atol=1e-5)


def test_micrometres_and_milliseconds(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((3, 3, 3, 2), np.int16), np.diag([500.0, 500, 500, 1]))
    image.header.set_xyzt_units("micron", "msec")
    image.header.set_zooms((500, 500, 500, 40))
    nibabel.save(image, tmp_path / "a.nii")
    scan = read(tmp_path / "a.nii")
    assert (scan.spacing, scan.time_step) == ((0.5, 0.5, 0.5), 0.04)


def test_lengths_of_analyze_are_not_made_up(tmp_path: Path) -> None:
    """nibabel takes a length of 0 as 1 mm."""
    nibabel.save(nibabel.AnalyzeImage(ARRAY, np.diag([-0.8, 0.9, 2.5, 1])), tmp_path / "a.hdr")
    (tmp_path / "a.mat").unlink(missing_ok=True)
    assert read(edited(tmp_path / "a.hdr", (PIXDIM + 8, SINGLE, -0.9))).notes == (
        "pixdim[2] is -0.9: its sign is dropped",
    )
    assert read(tmp_path / "a.img").spacing == pytest.approx((0.8, 0.9, 2.5))
    with pytest.raises(ValueError, match=r"a\.hdr: pixdim\[3\] of 0; expected the edge length of a voxel"):
        read(edited(tmp_path / "a.hdr", (PIXDIM + 12, SINGLE, 0)))
