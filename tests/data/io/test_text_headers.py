"""NRRD and MetaImage: every encoding, as ITK reads them; headers that ITK misreads or that must be refused."""

from __future__ import annotations

import bz2
import gzip
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from helpers.second_reader import read_with_itk

from meddiffusers.data.io import read, write
from meddiffusers.data.io.scan_search import find_scans
from meddiffusers.data.scan import Scan
from meddiffusers.datasets.public import load_scans

ARRAY = np.random.default_rng(0).integers(-900, 900, (6, 5, 4)).astype(np.int16)
AFFINE = np.array([[-0.8, 0, 0, 31.5], [0, -0.9, 0, 42.25], [0, 0, 2.5, 17], [0, 0, 0, 1]])
RAW = ARRAY.tobytes(order="F")
NRRD = (
    "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 6 5 4\n"
    "space directions: (0.8,0,0) (0,0.9,0) (0,0,2.5)\nkinds: domain domain domain\nendian: little\nencoding: raw\n"
    "space origin: (-31.5,-42.25,17)\n"
)
META = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
    "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = -31.5 -42.25 17\nElementSpacing = 0.8 0.9 2.5\nDimSize = 6 5 4\n"
    "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
)


def nrrd(path: Path, content: bytes = RAW, **changes: str) -> Path:
    """An NRRD file with other fields; an empty text removes a field."""
    lines = dict(line.split(": ", 1) for line in NRRD.splitlines()[1:])
    lines |= {name.replace("_", " "): text for name, text in changes.items()}
    header = "NRRD0004\n" + "".join(f"{name}: {text}\n" for name, text in lines.items() if text)
    path.write_bytes(header.encode() + b"\n" + content)
    return path


def meta(path: Path, content: bytes = RAW, **changes: str) -> Path:
    """A MetaImage with other fields; an empty text removes a field."""
    lines = dict(line.split(" = ", 1) for line in META.splitlines())
    last = changes.pop("ElementDataFile", lines.pop("ElementDataFile"))
    header = "".join(f"{name} = {text}\n" for name, text in (lines | changes).items() if text)
    path.write_bytes(header.encode() + f"ElementDataFile = {last}\n".encode() + content)
    return path


def check_as_itk(path: Path) -> None:
    array, affine = read_with_itk(path)
    scan = read(path)
    np.testing.assert_array_equal(scan.array, array)
    assert scan.array.dtype == array.dtype
    np.testing.assert_allclose(scan.affine, affine, atol=1e-9)


def check_refused(path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)
    assert "expected" in str(error.value)


@pytest.mark.slow
def test_axes_of_images_are_those_of_itk(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    direction = SimpleITK.VersorTransform((0.1, 0.7, -0.3), 0.9).GetMatrix()
    kinds = [SimpleITK.sitkUInt8, SimpleITK.sitkInt16, SimpleITK.sitkInt32, SimpleITK.sitkFloat32, SimpleITK.sitkInt64]
    for number, kind in enumerate(kinds):
        image = SimpleITK.Cast(SimpleITK.GetImageFromArray(rng.integers(0, 200, (4, 5, 6))), kind)
        image.SetDirection(direction)
        image.SetSpacing((0.8, 0.9, 2.5))
        image.SetOrigin((-31.5, 42, 17))
        vector, slice_ = (
            SimpleITK.Compose(image, image + 1),
            SimpleITK.GetImageFromArray(np.arange(30, dtype=np.int16).reshape(6, 5)),
        )
        slice_.SetSpacing((0.8, 0.9))
        slice_.SetDirection((0.6, -0.8, 0.8, 0.6))
        series = SimpleITK.JoinSeries([image, image + 1, image + 2])
        for name, picture in (("volume", image), ("vector", vector), ("slice", slice_), ("series", series)):
            for suffix in (".mha", ".mhd", ".nrrd", ".nhdr"):
                for packed in (False, True):
                    path = tmp_path / f"{name}{number}{packed}{suffix}"
                    SimpleITK.WriteImage(picture, str(path), packed)
                    check_as_itk(path)


@pytest.mark.parametrize("order", ["little", "big"])
def test_encodings_of_nrrd(tmp_path: Path, order: str) -> None:
    raw = ARRAY.astype(f"{'<' if order == 'little' else '>'}i2").tobytes(order="F")
    packed = {
        "raw": raw,
        "gzip": gzip.compress(raw),
        "hex": raw.hex().encode(),
        "bzip2": bz2.compress(raw),
        "ascii": " ".join(map(str, ARRAY.ravel(order="F"))).encode(),
    }
    for encoding, content in packed.items():
        scan = read(nrrd(tmp_path / f"{encoding}.nrrd", content, encoding=encoding, endian=order))
        np.testing.assert_array_equal(scan.array[0], ARRAY)
        np.testing.assert_allclose(scan.affine, AFFINE)
        assert scan.notes == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"space": "right-anterior-superior"},
        {"space": "LAS"},
        {"byte_skip": "7"},
        {"byte_skip": "-1"},
        {"line_skip": "2"},
        {
            "dimension": "4",
            "sizes": "6 5 2 2",
            "kinds": "domain domain domain list",
            "space_directions": "(0.8,0,0) (0,0.9,0) (0,0,2.5) none",
        },
        {
            "dimension": "4",
            "sizes": "2 3 5 4",
            "kinds": "vector domain domain domain",
            "space_directions": "none (0,0.8,0) (0.9,0,0) (0,0,-2.5)",
        },
        {"space": "", "space_directions": "", "space_origin": "", "spacings": "0.8 0.9 2.5"},
        {"space_units": '"mm" "mm" "mm"', "measurement_frame": "(1,0,0) (0,1,0) (0,0,1)", "thicknesses": "nan nan nan"},
    ],
)
def test_fields_of_nrrd_as_itk_reads_them(tmp_path: Path, changes: dict[str, str]) -> None:
    before = {"7": b"1234567", "-1": b"1234567", "2": b"one\ntwo\n"}
    skipped = before.get(changes.get("byte_skip") or changes.get("line_skip") or "", b"")
    check_as_itk(nrrd(tmp_path / "a.nrrd", skipped + RAW, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space_directions": "(0.8,0,0) none (0,0,2.5)"}, "directions that do not agree with kinds"),
        ({"space_directions": "(0.8,0,0) none (0,0,2.5)", "kinds": ""}, "3 axes, 2 of them with a direction"),
        ({"space_directions": "(nan,0,0) (0,0.9,0) (0,0,2.5)"}, "space directions of nan"),
        ({"space_directions": ""}, "neither space directions nor spacings"),
        ({"space_directions": "", "spacings": "nan nan nan", "space": "", "space_origin": ""}, "3 axes, 0 of them"),
        ({"space_directions": "(0,8,0,0) (0,0.9,0) (0,0,2.5)"}, "3 axes, 3 of them"),
        ({"space_units": '"um" "um" "um"'}, "lengths in another unit"),
        ({"space_directions": "(1e38,0,0) (0,0.9,0) (0,0,2.5)"}, r"voxels of 1e\+38"),
        ({"endian": ""}, "no endian"),
        ({"sizes": "90000 90000 90000"}, "the 1458000000000000 bytes"),
        ({"space": "left-posterior"}, "a space that NRRD does not have"),
        ({"spaces": "none"}, "a line that is no field of NRRD"),
    ],
)
def test_geometry_of_nrrd_that_is_unknown_is_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    check_refused(nrrd(tmp_path / "a.nrrd", **changes), message)


def test_long_headers_of_nrrd(tmp_path: Path) -> None:
    """ITK ends the process at lines of more than a thousand characters; diffusion series exceed 64 KiB."""
    path = nrrd(tmp_path / "a.nrrd")
    header, _, voxels = path.read_bytes().partition(b"\n\n")
    long = b"\n# " + b"x" * 5000 + b"\nkey:=" + b"y" * 5000
    gradients = b"".join(b"\nDWMRI_gradient_%05d:=0.57735 0.57735 0.57735" % number for number in range(3000))
    path.write_bytes(header + long + gradients + b"\n\n" + voxels)
    np.testing.assert_array_equal(read(path).array[0], ARRAY)
    path.write_bytes(header.replace(b"(0,0.9,0)", b" " * 5000 + b"(0,0.9,0)") + b"\n\n" + voxels)
    np.testing.assert_array_equal(read(path).array[0], ARRAY)
    check_refused(nrrd(tmp_path / "b.nrrd", space_directions="(0.8,0,0)" * 500), "space directions that are no vectors")


@pytest.mark.parametrize("size", ["", "40", "999999"])
def test_a_metaimage_is_the_bytes_that_were_verified(tmp_path: Path, size: str) -> None:
    path = meta(tmp_path / "a.mha", zlib.compress(RAW), CompressedData="True", CompressedDataSize=size)
    np.testing.assert_array_equal(read(path).array[0], ARRAY)
    packed = bytearray(zlib.compress(RAW))
    packed[60] ^= 4
    check_refused(
        meta(tmp_path / "b.mha", bytes(packed), CompressedData="True"), "packed data that are damaged|break off"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"BinaryDataByteOrderMSB": "True"},
        {"BinaryDataByteOrderMSB": "", "ElementByteOrderMSB": "True"},
        {"HeaderSize": "7"},
        {"HeaderSize": "-1"},
        {"Offset": "", "Position": "1 2 3"},
        {"TransformMatrix": "0 1 0 -1 0 0 0 0 1"},
        {"ElementNumberOfChannels": "2", "DimSize": "3 5 4"},
        {"ElementType": "MET_LONG", "DimSize": "3 5 4"},
        {"ElementType": "MET_USHORT", "Comment": "something = else"},
    ],
)
def test_fields_of_metaimage_as_itk_reads_them(tmp_path: Path, changes: dict[str, str]) -> None:
    local = "HeaderSize" not in changes
    if local:
        check_as_itk(meta(tmp_path / "a.mha", **changes))
    else:
        (tmp_path / "a.raw").write_bytes(b"1234567" + RAW)
        check_as_itk(meta(tmp_path / "a.mhd", b"", ElementDataFile="a.raw", **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ElementSpacing": ""}, "no ElementSpacing"),
        ({"ElementSpacing": "0,8 0,9 2,5"}, "ElementSpacing with a decimal comma"),
        ({"ElementSpacing": "0.8 nan 2.5"}, "ElementSpacing of 0.8 nan 2.5"),
        ({"ElementSpacing": "0.8 0 2.5"}, "an ElementSpacing that is not positive"),
        ({"ElementSpacing": "0.8 1e38 2.5"}, r"1e\+38"),
        ({"DistanceUnits": "um"}, "another unit"),
        ({"ElementToIntensityFunctionSlope": "2"}, "values to be scaled"),
        ({"TransformMatrix": "2 0 0 0 1 0 0 0 1"}, "a TransformMatrix that is no rotation"),
        ({"CompressedData": "Frue"}, "neither True nor False"),
        ({"ObjectType": "Tube"}, "an ObjectType other than Image"),
        ({"DimSize": "6 5 5"}, "the 300 bytes that its header promises"),
        ({"Position": "1 2 3"}, "several of Offset, Position, Origin"),
    ],
)
def test_metaimages_that_are_ambiguous_are_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    check_refused(meta(tmp_path / "a.mha", **changes), message)


def test_what_a_header_leaves_open_is_noted(tmp_path: Path) -> None:
    scan = read(meta(tmp_path / "a.mha", Offset="", TransformMatrix=""))
    assert scan.notes == ("no TransformMatrix: left and right are a guess", "no Offset: the position is a guess")
    scan = read(nrrd(tmp_path / "a.nrrd", space="", space_dimension="3", space_origin=""))
    assert scan.notes == ("no anatomical space: left and right are a guess", "no space origin: the position is a guess")


@pytest.mark.parametrize("name", ["../outside.raw", "/etc/passwd", "sub/../../outside.raw", "link.raw", "gone.raw", ""])
def test_headers_lead_to_no_file_outside_their_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "outside.raw").write_bytes(RAW)
    (folder / "link.raw").symlink_to(tmp_path / "outside.raw")
    message = "voxels outside its folder|no file with the voxels|voxels in none or many files"
    check_refused(meta(folder / "a.mhd", b"", ElementDataFile=name), message)
    if name:
        check_refused(nrrd(folder / "a.nhdr", b"", data_file=name), message)
    (folder / "sub" / "inside.raw").write_bytes(RAW)
    np.testing.assert_array_equal(read(nrrd(folder / "b.nhdr", b"", data_file="sub/inside.raw")).array[0], ARRAY)


def test_links_to_both_files_are_followed(tmp_path: Path) -> None:
    """As in a repository of git-annex."""
    write(Scan(ARRAY, np.eye(4)), tmp_path / "store" / "a.mhd")
    (tmp_path / "view").mkdir()
    for name in ("a.mhd", "a.raw"):
        (tmp_path / "view" / name).symlink_to(tmp_path / "store" / name)
    np.testing.assert_array_equal(read(tmp_path / "view" / "a.mhd").array[0], ARRAY)


def test_pipes_are_refused_at_once(tmp_path: Path) -> None:
    for name in ("a.nii", "a.mha", "a.dcm", "a"):
        os.mkfifo(tmp_path / name)
        check_refused(tmp_path / name, "a pipe or a device")
    check_refused(meta(tmp_path / "b.mhd", b"", ElementDataFile="a.nii"), "no file with the voxels")


def test_pipes_in_folders_are_passed_over(tmp_path: Path) -> None:
    for name in ("p1", "p2"):
        write(Scan(ARRAY, AFFINE), tmp_path / name / "t1.nii")
    for name in ("p1/flair.nii", "p2/x", "p2/y.dcm"):
        os.mkfifo(tmp_path / name)
    assert [path.name for path in find_scans(tmp_path)] == ["t1.nii", "t1.nii"]
    assert load_scans(tmp_path, test_fraction=0)["train"].column_names == ["subject", "t1"]
