"""Numbers in headers that only Python takes for numbers, and other fields that must not be guessed at."""

from __future__ import annotations

import bz2
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom_series import LPS, write_series
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from meddiffusers.data.io import read

RAW = np.arange(24, dtype=np.int16).tobytes()
NRRD = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "2 3 4",
    "space directions": "(1,0,0) (0,2,0) (0,0,3)",
    "space origin": "(1,2,3)",
    "endian": "little",
    "encoding": "raw",
}
META = {
    "ObjectType": "Image",
    "NDims": "3",
    "DimSize": "2 3 4",
    "ElementSpacing": "1 2 3",
    "Offset": "1 2 3",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}


def nrrd(path: Path, content: bytes = RAW, **changes: str) -> Path:
    fields = NRRD | {name.replace("_", " "): text for name, text in changes.items()}
    path.write_bytes(b"NRRD0004\n" + "".join(f"{k}: {v}\n" for k, v in fields.items()).encode() + b"\n" + content)
    return path


def meta(path: Path, content: bytes = RAW, **changes: str) -> Path:
    fields = META | changes
    last = fields.pop("ElementDataFile")
    header = "".join(f"{name} = {text}\n" for name, text in fields.items())
    path.write_bytes(f"{header}ElementDataFile = {last}\n".encode() + content)
    return path


def check_refused(path: Path, message: str = "expected") -> None:
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        *({"sizes": "2 3 0_4"}, {"sizes": "2 3 ٤"}, {"space_origin": "(1_0,2,3)"}, {"dimension": "0_3"}),
        *({"space_directions": "(1_0,0,0) (0,2,0) (0,0,3)"}, {"byte_skip": "0_0"}, {"line_skip": "0.5"}),
        *({"byte_skip": "0.5"}, {"sizes": "2 3 0x4"}, {"space_directions": "(1,0,0) (0,2,0) (0,0,1,5)"}),
    ],
)
def test_nrrd(tmp_path: Path, changes: dict[str, str]) -> None:
    assert read(nrrd(tmp_path / "right.nrrd")).spacing == (1, 2, 3)
    check_refused(nrrd(tmp_path / "a.nrrd", **changes))


@pytest.mark.parametrize(
    "changes",
    [
        *({"DimSize": "2 3 0_4"}, {"ElementSpacing": "1_0 2 3"}, {"Offset": "1 2_0 3"}, {"HeaderSize": "0_0"}),
        *({"NDims": "0_3"}, {"TransformMatrix": "1 0 0 0 1 0 0 0 0_1"}, {"ElementNumberOfChannels": "0_1"}),
        *({"TransformMatrix": "1 0 0 .6 .8 0 0 0 1"}, {"TransformMatrix": "1 0 0 1 0 0 0 0 1"}),  # shear, no space
    ],
)
def test_metaimage(tmp_path: Path, changes: dict[str, str]) -> None:
    assert read(meta(tmp_path / "right.mha")).spacing == (1, 2, 3)
    assert read(meta(tmp_path / "mirrored.mha", TransformMatrix="-1 0 0 0 1 0 0 0 1")).spacing == (1, 2, 3)
    check_refused(meta(tmp_path / "a.mha", **changes))


@pytest.mark.parametrize("kind", ["short", "float"])
def test_voxels_as_text(tmp_path: Path, kind: str) -> None:
    right = b" ".join(b"%d" % value for value in range(24))
    np.testing.assert_array_equal(
        read(nrrd(tmp_path / "right.nrrd", right, encoding="ascii", type=kind)).array.ravel(order="F"), range(24)
    )
    check_refused(
        nrrd(tmp_path / "a.nrrd", right.replace(b"23", b"2_3"), encoding="ascii", type=kind), "text that is no"
    )


@pytest.mark.parametrize(
    ("name", "value"), [("PixelSpacing", "1_0\\1"), ("RescaleSlope", "1_0"), ("ImagePositionPatient", "1_0\\0\\0")]
)
def test_dicom(tmp_path: Path, name: str, value: str) -> None:
    (path,) = write_series(tmp_path, np.zeros((6, 5, 1), np.int16), LPS @ np.diag([0.8, 0.9, 3, 1]))
    dataset = pydicom.dcmread(path)
    stored = value.encode() + b" " * (len(value) % 2)
    dataset[Tag(name)] = RawDataElement(Tag(name), "DS", len(stored), stored, 0, False, True, True)
    dataset.save_as(path)
    check_refused(path, f"{name} with text that is no number")


def test_scaling_by_one_is_none(tmp_path: Path) -> None:
    one, zero = (f"ElementToIntensityFunction{name}" for name in ("Slope", "Offset"))
    np.testing.assert_array_equal(
        read(meta(tmp_path / "a.mha", **{one: "1.0", zero: "0.0"})).array.ravel(order="F"), range(24)
    )
    for changes in ({one: "2"}, {zero: "1"}, {one: "0"}):
        check_refused(meta(tmp_path / "a.mha", **changes), "values to be scaled")


def test_streams_of_bzip2_are_verified_to_their_end(tmp_path: Path) -> None:
    packed = bz2.compress(RAW)
    assert read(nrrd(tmp_path / "right.nrrd", packed, encoding="bzip2")).array.shape == (1, 2, 3, 4)
    for content in (packed[:-1], packed[:-5], packed + b"x", packed + packed):
        check_refused(nrrd(tmp_path / "a.nrrd", content, encoding="bzip2"), "data that are not bzip2, or damaged")


def test_names_of_files_that_cannot_be_are_refused(tmp_path: Path) -> None:
    check_refused(nrrd(tmp_path / "a.nrrd", data_file="a\0b"), "voxels outside its folder")
