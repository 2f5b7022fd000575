"""DICOM whose data set is deflated: read, and bounded before it is decompressed."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom_series import LPS, write_series
from pydicom.uid import DeflatedExplicitVRLittleEndian

from meddiffusers.data.io import dicom_files, read

ARRAY = np.random.default_rng(0).integers(0, 4000, (6, 5, 3)).astype(np.int16)
AFFINE = LPS @ np.diag([0.8, 0.9, 3, 1])
LIMIT = 10_000  # of the header, for these tests


def deflated(folder: Path) -> list[Path]:
    paths = write_series(folder, ARRAY, AFFINE)
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.save_as(path)
    return paths


@pytest.mark.parametrize("limit", [dicom_files.HEAD, 5000])
def test_deflated_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(dicom_files, "HEAD", limit)
    paths = deflated(tmp_path)
    scan = read(tmp_path)
    np.testing.assert_array_equal(scan.array[0], ARRAY)
    np.testing.assert_allclose(scan.affine, AFFINE, atol=1e-6)
    assert read(paths[0]).array.shape == (1, 6, 5, 1)


def test_a_bomb_is_refused_before_it_is_decompressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_files, "HEAD", LIMIT)
    path, *others = deflated(tmp_path)
    for other in others:
        other.unlink()
    data = path.read_bytes()
    start = dicom_files._end_of_meta(data)
    bomb = struct.pack("<HH2sHI", 0x7FE1, 0x1010, b"OB", 0, 1 << 28) + bytes(1 << 25)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(zlib.decompress(data[start:], -zlib.MAX_WBITS) + bomb) + packer.flush()
    path.write_bytes(data[:start] + packed)
    for source in (path, tmp_path):
        tracemalloc.start()
        with pytest.raises(
            ValueError, match=r"a deflated data set of more than 10060 bytes; expected pixels of 60 bytes"
        ):
            read(source)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
        tracemalloc.stop()


def test_damaged_streams_are_named(tmp_path: Path) -> None:
    path, *_ = deflated(tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=str(path)):
        read(path)
