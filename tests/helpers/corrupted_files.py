"""Damaged scans of every format that can be read, from a seed: bit flips, truncation, additions, wrong headers.

Only damage that can be noticed: a flipped bit in voxels that nothing packs or sums up gives another valid scan.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import SimpleITK
from pydicom.data import get_testdata_file

from meddiffusers.data.io import write
from meddiffusers.data.scan import Scan

Damage = Callable[[bytes, np.random.Generator], bytes]
NAN, INFINITE = float("nan"), float("inf")
Fields = list[tuple[int, str, list[Any]]]
NIFTI_FIELDS: Fields = [  # offset, type, impossible values
    (0, "<i", [0, 1, 349]),  # size of the header
    (40, "<h", [0, 8, -1, 300]),  # number of dimensions
    (42, "<h", [0, -5, 30000]),
    (44, "<h", [0, -1, 32767]),
    (46, "<h", [0, -2, 9]),
    (70, "<h", [0, 3, 5000, -1]),  # data type
    (72, "<h", [0, 8, 17, 64]),  # bits of a voxel
    (108, "<f", [NAN, INFINITE, 1e9, -8, 360.5]),  # where voxels start
]
SFORM: Fields = [
    (280, "<f", [NAN, INFINITE]),
    (300, "<f", [NAN]),
    (292, "<f", [NAN, -INFINITE]),
    (344, "4s", [b"abcd"]),
]
DICOM_FIELDS: dict[str, list[object]] = {
    "Rows": [0, 63, 65535],
    "Columns": [0, 65, 65535],
    "BitsAllocated": [0, 8, 32, 17],
    "SamplesPerPixel": [0, 3],
    "NumberOfFrames": ["2", "2000000000", "-1"],
    "PixelSpacing": [["0", "0"], ["-1", "1"]],
    "ImageOrientationPatient": [["0", "0", "0", "0", "0", "0"], ["1", "0", "0", "1", "0", "0"]],
    "PixelData": [b"", b"\1\2"],
}


def corrupted_files(folder: Path, seed: int, count: int) -> Iterator[Path]:
    """Write `count` damaged files under `folder`, and yield each; for a pair, the header."""
    rng = np.random.default_rng(seed)
    whole = _whole_files(folder / "whole")
    kinds = list(_DAMAGES)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        damages = _DAMAGES[kind]
        damage = damages[(number // len(kinds)) % len(damages)]
        target = folder / f"{number:03}"
        target.mkdir(parents=True)
        for name, content in whole[kind].items():
            (target / name).write_bytes(content)
        victim = target / next(iter(whole[kind]))
        victim.write_bytes(damage(victim.read_bytes(), rng))
        yield victim


def _whole_files(folder: Path) -> dict[str, dict[str, bytes]]:
    """Files of each kind, the one to damage first."""
    rng = np.random.default_rng(0)
    affine = np.array([[-2.0, 0.1, 0, 30], [0.1, 2, 0, -40], [0, 0, 3, 12], [0, 0, 0, 1]])
    affine[:3, :2] /= np.linalg.norm(affine[:3, :2], axis=0) / 2
    scan = Scan(rng.integers(-900, 900, (12, 11, 10)).astype(np.int16), affine)
    for name in ("scan.nii", "scan.nii.gz", "scan.nrrd", "scan.mha"):
        write(scan, folder / name)
    raw = SimpleITK.ReadImage(str(folder / "scan.mha"))
    for name in ("raw.nrrd", "raw.mha"):
        SimpleITK.WriteImage(raw, str(folder / name), False)
    analyze = nibabel.AnalyzeImage(scan.array[0], np.diag([-2, 2, 3, 1]))
    nibabel.save(analyze, folder / "scan.img")
    (folder / "scan.dcm").write_bytes(Path(str(get_testdata_file("MR_small.dcm"))).read_bytes())
    singles = {path.name: {path.name: path.read_bytes()} for path in folder.iterdir() if path.stem != "pair"}
    header, image = singles.pop("scan.hdr"), singles.pop("scan.img")
    return {**singles, "scan.hdr": header | image, "scan.img": image | header}


def truncated(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(0, len(data) - 8))]


def truncated_header(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(0, 300))]


def lengthened(data: bytes, rng: np.random.Generator) -> bytes:
    return data + rng.integers(1, 256, int(rng.integers(1, 600)), dtype=np.uint8).tobytes()


def flipped(start: float, data: bytes, rng: np.random.Generator) -> bytes:
    """Flip one bit of the compressed data, which the checksum detects."""
    damaged = bytearray(data)
    place = int(rng.integers(int(start * len(data)), len(data)))
    damaged[place] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def flipped_stream(data: bytes, rng: np.random.Generator) -> bytes:
    return flipped(0.4, data, rng)


def other_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    return rng.integers(0, 256, len(data), dtype=np.uint8).tobytes()


def wrong_nifti_header(data: bytes, rng: np.random.Generator) -> bytes:
    return _with_field(data, rng, NIFTI_FIELDS + SFORM)


def wrong_analyze_header(data: bytes, rng: np.random.Generator) -> bytes:
    return _with_field(data, rng, NIFTI_FIELDS[:-1])


def wrong_packed_header(data: bytes, rng: np.random.Generator) -> bytes:
    return gzip.compress(wrong_nifti_header(gzip.decompress(data), rng))


def wrong_dicom_header(data: bytes, rng: np.random.Generator) -> bytes:
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
    keyword = list(DICOM_FIELDS)[int(rng.integers(len(DICOM_FIELDS)))]
    values = DICOM_FIELDS[keyword]
    setattr(dataset, keyword, values[int(rng.integers(len(values)))])
    written = pydicom.filebase.DicomBytesIO()
    dataset.save_as(written)
    return bytes(written.getvalue())


def no_preamble(data: bytes, rng: np.random.Generator) -> bytes:
    return data[:128] + b"DICN" + data[132:]


def wrong_text(data: bytes, rng: np.random.Generator) -> bytes:
    """A text header with invalid sizes, type, axes or encoding."""
    choices = [
        (b"sizes: 12 11 10", [b"sizes: 0 11 10", b"sizes: 12 11 11", b"sizes: 90000 90000 90000", b"sizes: -1 2 3"]),
        (b"type: short", [b"type: shirt", b"type: double"]),
        (b"dimension: 3", [b"dimension: 2", b"dimension: 99"]),
        (b"NRRD000", [b"NURD000"]),
        (b"DimSize = 12 11 10", [b"DimSize = 0 11 10", b"DimSize = 12 11 12", b"DimSize = 90000 90000 90000"]),
        (b"ElementType = MET_SHORT", [b"ElementType = MET_SHIRT", b"ElementType = MET_DOUBLE"]),
        (b"ElementDataFile = LOCAL", [b"ElementDataFile = gone.raw", b"ElementDataFell = LOCAL"]),
        (b"ElementSpacing = 2 2 3", [b"ElementSpacing = 0 2 3", b"ElementSpacing = nan 2 3"]),
    ]
    choices = [(old, new) for old, new in choices if old in data]
    old, new = choices[int(rng.integers(len(choices)))]
    return data.replace(old, new[int(rng.integers(len(new)))], 1)


def _with_field(data: bytes, rng: np.random.Generator, fields: Fields) -> bytes:
    offset, kind, values = fields[int(rng.integers(len(fields)))]
    damaged = bytearray(data)
    struct.pack_into(kind, damaged, offset, values[int(rng.integers(len(values)))])
    return bytes(damaged)


_DAMAGES: dict[str, list[Damage]] = {
    "scan.nii": [truncated, wrong_nifti_header, lengthened, wrong_nifti_header, other_bytes, truncated_header],
    "scan.nii.gz": [flipped_stream, truncated, wrong_packed_header, flipped_stream, lengthened, wrong_packed_header],
    "scan.nrrd": [flipped_stream, truncated, wrong_text, lengthened, other_bytes],
    "raw.nrrd": [truncated, wrong_text, lengthened],
    "scan.mha": [flipped_stream, truncated, wrong_text, flipped_stream, other_bytes, lengthened],
    "raw.mha": [truncated, wrong_text, lengthened],
    "scan.dcm": [truncated, wrong_dicom_header, wrong_dicom_header, no_preamble, other_bytes],
    "scan.hdr": [wrong_analyze_header, truncated_header, other_bytes],
    "scan.img": [truncated, lengthened],
}
