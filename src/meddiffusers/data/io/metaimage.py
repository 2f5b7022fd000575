"""Read MetaImage (.mha, .mhd). The axes and the meaning of all fields are those of ITK.

The components of vector pixels become channels, and so do the volumes of a four-dimensional image. A two-dimensional
image is one slice, 1 mm thick. The format has no field for a time step.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from meddiffusers.data.io.library_errors import UnreadableError, decoding, scan_read
from meddiffusers.data.io.text_header import (
    DIMENSIONS,
    LONGEST_HEADER,
    LPS_TO_RAS,
    data_beside,
    decoded,
    integers,
    numbers,
    to_channels,
)
from meddiffusers.data.scan import Scan

KIND = "a MetaImage file"
TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
ORIGIN, AXES = ("Offset", "Position", "Origin"), ("TransformMatrix", "Rotation", "Orientation")
BIG_ENDIAN = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
READ = (
    *("ObjectType", "NDims", "DimSize", "ElementType", "ElementNumberOfChannels", "ElementSpacing", "DistanceUnits"),
    *("BinaryData", "CompressedData", "HeaderSize", "ElementDataFile", *ORIGIN, *AXES, *BIG_ENDIAN),
)
TRUTH = {"true": True, "false": False, "1": True, "0": False}
UNITS = ("mm", "?")

Fields = Mapping[str, str]


def read_metaimage(path: Path, modality: str | Sequence[str]) -> Scan:
    """Read .mha or .mhd."""
    source = str(path)
    with decoding(source, KIND):
        data = path.read_bytes()
        fields, start = _header(source, data)
        dimensions = integers(source, "NDims", fields.get("NDims", ""), 1)[0]
        channels = integers(source, "ElementNumberOfChannels", fields.get("ElementNumberOfChannels", "1"), 1)[0]
        if dimensions not in DIMENSIONS or (dimensions == 4 and channels > 1):
            found = f"{dimensions} dimensions of {channels} values"
            raise UnreadableError(source, found, "a slice or a volume with one axis of channels", "split it")
        sizes = [channels, *integers(source, "DimSize", fields.get("DimSize", ""), dimensions)]
        affine, notes = _affine(source, fields, dimensions)
        values = _values(path, fields, data[start:], math.prod(sizes))
        if dimensions == 4:
            return scan_read(to_channels(values, sizes[1:], 3), affine, modality, source, notes=notes)
        return scan_read(to_channels(values, sizes, 0), affine, modality, source, notes=notes)


def _header(source: str, data: bytes) -> tuple[dict[str, str], int]:
    """Fields up to ElementDataFile, the last one, and the offset of the voxels."""
    end = re.search(rb"^ElementDataFile[ \t]*=[ \t]*[^\r\n]*(\r?\n|\Z)", data[:LONGEST_HEADER], re.MULTILINE)
    if not end:
        raise UnreadableError(source, "no ElementDataFile in its header", KIND)
    fields: dict[str, str] = {}
    for line in filter(None, map(str.strip, data[: end.end()].decode("latin-1").splitlines())):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or (name in fields and name in READ):
            raise UnreadableError(source, "a line that is no field, or a field twice", f"the header of {KIND}")
        fields[name] = value
    if fields.get("ObjectType", "Image") != "Image":
        raise UnreadableError(source, "an ObjectType other than Image", "an image")
    return fields, end.end()


def _values(path: Path, fields: Fields, behind: bytes, count: int) -> np.ndarray:
    """All values, the channels of a voxel first, from the bytes behind the header or from another file."""
    source, name = str(path), fields["ElementDataFile"]
    if fields.get("ElementType") not in TYPES:
        raise UnreadableError(source, "no known ElementType", f"one of {', '.join(TYPES)}")
    if not name or name.startswith("LIST") or "%" in name:
        raise UnreadableError(source, "voxels in none or many files", "one file", "join them")
    data = behind if name.lower() == "local" else data_beside(path, name).read_bytes()
    order = {_is_true(source, fields, each) for each in BIG_ENDIAN if each in fields} or {False}
    if len(order) > 1:
        raise UnreadableError(source, "two byte orders", "one", "correct its header")
    dtype = np.dtype(TYPES[fields["ElementType"]]).newbyteorder(">" if order == {True} else "<")
    packed = _is_true(source, fields, "CompressedData")
    packing = "gzip" if packed else "raw" if _is_true(source, fields, "BinaryData", "True") else "text"
    skipped = numbers(source, "HeaderSize", fields.get("HeaderSize", "0"), 1)[0]
    if skipped == -1 and packing == "raw":
        skipped = max(len(data) - count * dtype.itemsize, 0)
    if not 0 <= skipped <= len(data) or skipped % 1:
        raise UnreadableError(source, f"a HeaderSize of {skipped:g}", "a number of bytes, or -1 for the last ones")
    return decoded(source, data[int(skipped) :], packing, dtype, count)


def _affine(source: str, fields: Fields, dimensions: int) -> tuple[np.ndarray, list[str]]:
    """Affine in RAS+, mm, of the first three dimensions, and notes on what the header lacks."""
    if "ElementSpacing" not in fields:
        raise UnreadableError(source, "no ElementSpacing", "the distances between voxels in mm", "add it")
    names = [f"ElementToIntensityFunction{each}" for each in ("Slope", "Offset")]
    scaling = [numbers(source, name, fields.get(name) or unit, 1)[0] for name, unit in zip(names, "10", strict=True)]
    if fields.get("DistanceUnits", "mm") not in UNITS or scaling != [1, 0]:
        raise UnreadableError(source, "another unit, or values to be scaled", "mm, and values as stored", "convert it")
    spacing = numbers(source, "ElementSpacing", fields["ElementSpacing"], dimensions)
    if min(spacing) <= 0:
        raise UnreadableError(source, "an ElementSpacing that is not positive", "distances in mm", "correct it")
    axes, notes = np.eye(dimensions), []
    if matrix := _either(source, fields, AXES):
        axes = np.reshape(numbers(source, "TransformMatrix", matrix, dimensions**2), (dimensions, dimensions)).T
        if not np.allclose(axes.T @ axes, np.eye(dimensions), atol=2e-3) or axes[:3, 3:].any() or axes[3:, :3].any():
            raise UnreadableError(
                source, "a TransformMatrix that is no rotation", "unit vectors at right angles", "correct it"
            )
    else:
        notes.append("no TransformMatrix: left and right are a guess")
    if not (origin := _either(source, fields, ORIGIN)):
        notes.append("no Offset: the position is a guess")
    affine = np.eye(max(dimensions, 3) + 1)
    affine[:dimensions, :dimensions] = axes * spacing
    affine[:dimensions, -1] = numbers(source, "Offset", origin, dimensions) if origin else 0
    return LPS_TO_RAS @ affine[np.ix_([0, 1, 2, -1], [0, 1, 2, -1])], notes


def _either(source: str, fields: Fields, names: Sequence[str]) -> str:
    """The value of a field with several names; "" if there is none."""
    found = {fields[name] for name in names if name in fields}
    if len(found) > 1:
        raise UnreadableError(source, f"several of {', '.join(names)}, which differ", "one", "correct its header")
    return found.pop() if found else ""


def _is_true(source: str, fields: Fields, name: str, default: str = "False") -> bool:
    value = fields.get(name, default).lower()
    if value not in TRUTH:
        raise UnreadableError(source, f"a {name} that is neither True nor False", "one of them", "correct its header")
    return TRUTH[value]
