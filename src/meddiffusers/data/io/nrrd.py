"""Read NRRD (.nrrd, .nhdr) with any encoding. The axes and the meaning of all fields are those of teem and ITK.

One axis that is not of space becomes the channels. A two-dimensional image is one slice, 1 mm thick. The format has no
field for a time step.
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
    data_beside,
    decoded,
    integers,
    numbers,
    to_channels,
)
from meddiffusers.data.scan import Scan

KIND = "an NRRD file"
_KNOWN = (
    *(
        "content",
        "number",
        "type",
        "blocksize",
        "dimension",
        "sizes",
        "spacings",
        "thicknesses",
        "axismins",
        "axismaxs",
    ),
    *("space", "spacedimension", "spacedirections", "spaceunits", "spaceorigin", "measurementframe", "centers"),
    *("centerings", "kinds", "labels", "units", "min", "max", "oldmin", "oldmax", "endian", "encoding", "lineskip"),
    *("byteskip", "sampleunits", "datafile"),
)
_TYPES = {  # without "signed", "_t" and spaces
    ("char", "int8"): "i1",
    ("uchar", "unsignedchar", "uint8"): "u1",
    ("short", "shortint", "int16"): "i2",
    ("ushort", "unsignedshort", "unsignedshortint", "uint16"): "u2",
    ("int", "int32"): "i4",
    ("uint", "unsignedint", "uint32"): "u4",
    ("longlong", "longlongint", "int64"): "i8",
    ("ulonglong", "unsignedlonglong", "unsignedlonglongint", "uint64"): "u8",
    ("float",): "f4",
    ("double",): "f8",
}
TYPES = {name: kind for names, kind in _TYPES.items() for name in names}
ENCODINGS = {
    "raw": "raw",
    **dict.fromkeys(("txt", "text", "ascii"), "text"),
    "hex": "hex",
    **dict.fromkeys(("gz", "gzip"), "gzip"),
    **dict.fromkeys(("bz2", "bzip2"), "bzip2"),
}
SPACES = {  # signs that lead to RAS+
    **dict.fromkeys(("right-anterior-superior", "ras"), (1, 1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1, 1, 1)),
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1, -1, 1)),
}
UNPLACED = ("scanner-xyz", "3d-right-handed", "3d-left-handed", "")  # say nothing of the patient
OF_SPACE = ("domain", "space", "time", "", "???", "none")  # kinds of axes that may have a direction
UNITS = ("mm", "", "???", "none")

Fields = Mapping[str, str]


def read_nrrd(path: Path, modality: str | Sequence[str]) -> Scan:
    """Read .nrrd or .nhdr."""
    source = str(path)
    with decoding(source, KIND):
        data = path.read_bytes()
        fields, start = _header(source, data)
        dimensions = integers(source, "dimension", fields.get("dimension", ""), 1)[0]
        sizes = integers(source, "sizes", fields.get("sizes", ""), dimensions)
        steps, channel_axis = _axes(source, fields, dimensions)
        _check_units(source, fields, channel_axis)
        affine, notes = _affine(source, fields, steps)
        values = _values(path, fields, data[start:], math.prod(sizes))
        return scan_read(to_channels(values, sizes, channel_axis), affine, modality, source, notes=notes)


def _header(source: str, data: bytes) -> tuple[dict[str, str], int]:
    """Fields up to the first empty line, and the offset of the voxels; comments and other keys are left out."""
    end = re.search(rb"\r?\n\r?\n", data[:LONGEST_HEADER])
    magic, *lines = data[: end.start() if end else LONGEST_HEADER].decode("latin-1").splitlines() or [""]
    if not re.fullmatch(r"NRRD000[1-5]", magic.rstrip()):
        raise UnreadableError(source, "no NRRD0001 to NRRD0005 in its first line", KIND)
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith("#") or re.match(r"[^:]+:=", line):
            continue
        name, colon, value = line.partition(":")
        name = name.replace(" ", "").lower()
        if not colon or name not in _KNOWN or name in fields:
            raise UnreadableError(source, "a line that is no field of NRRD, or a field twice", f"the header of {KIND}")
        fields[name] = value.strip()
    return fields, end.end() if end else len(data)


def _values(path: Path, fields: Fields, behind: bytes, count: int) -> np.ndarray:
    """All values, the first axis fastest, from the bytes behind the header or from another file."""
    source, name = str(path), fields.get("datafile", "LOCAL")
    kind = fields.get("type", "").lower().replace("_t", "").replace(" ", "").removeprefix("signed")
    packing, order = ENCODINGS.get(fields.get("encoding", "").lower()), fields.get("endian", "").lower()
    if kind not in TYPES or not packing:
        raise UnreadableError(source, "no known type or encoding", "those of NRRD", "correct its header")
    if name.startswith("LIST") or "%" in name or not name:
        raise UnreadableError(source, "voxels in none or many files", "one file", "join them")
    dtype = np.dtype(TYPES[kind])
    if order not in ("little", "big") and dtype.itemsize > 1 and packing != "text":
        raise UnreadableError(source, "no endian", "the byte order, little or big", "add it")
    data = behind if name == "LOCAL" else data_beside(path, name).read_bytes()
    lines, skipped = (numbers(source, each, fields.get(each, "0"), 1)[0] for each in ("lineskip", "byteskip"))
    if not (lines.is_integer() and skipped.is_integer()):
        raise UnreadableError(source, "a part of a line or a byte to skip", "whole numbers", "correct its header")
    lines, skipped = int(lines), int(skipped)
    for _ in range(min(lines, len(data))):
        data = data.partition(b"\n")[2]
    dtype = dtype.newbyteorder(">" if order == "big" else "<")
    if packing == "raw" and skipped == -1:
        skipped = max(len(data) - count * dtype.itemsize, 0)
    if skipped < 0 or lines < 0 or (skipped and packing not in ("raw", "gzip")):
        raise UnreadableError(source, "a byte skip or line skip that cannot be", "bytes to skip", "correct its header")
    if packing == "gzip" and skipped:  # of the content
        return decoded(source, data, packing, np.dtype("u1"), skipped + count * dtype.itemsize)[skipped:].view(dtype)
    return decoded(source, data[skipped:], packing, dtype, count)


def _axes(source: str, fields: Fields, dimensions: int) -> tuple[np.ndarray, int | None]:
    """Steps along the axes of space as columns of a square matrix (2 to 4 rows), and the axis of channels, if any."""
    kinds = _per_axis(source, fields, "kinds", dimensions)
    if "spacedirections" in fields:
        vectors = _directions(source, fields["spacedirections"], dimensions)
        odd = [
            kind for kind, vector in zip(kinds, vectors, strict=True) if vector is None and kind in ("domain", "space")
        ]
    elif "spacings" in fields and "axismins" not in fields:
        lengths = _per_axis(source, fields, "spacings", dimensions)
        kept = [axis for axis in range(dimensions) if lengths[axis] != "nan" and kinds[axis] in OF_SPACE]
        steps = np.diag([numbers(source, "spacings", lengths[axis], 1)[0] for axis in kept])
        odd, vectors = [], [list(steps[kept.index(axis)]) if axis in kept else None for axis in range(dimensions)]
    else:
        raise UnreadableError(source, "neither space directions nor spacings alone", "the voxels' size", "add them")
    spatial = [axis for axis, vector in enumerate(vectors) if vector is not None]
    others = [axis for axis, vector in enumerate(vectors) if vector is None]
    size = {len(vectors[axis] or ()) for axis in spatial}
    if odd or any(kinds[axis] not in OF_SPACE for axis in spatial):
        raise UnreadableError(source, "directions that do not agree with kinds", "a direction of each axis of space")
    if size != {len(spatial)} or len(spatial) not in DIMENSIONS or len(others) > 1 or dimensions > 4:
        found = f"{dimensions} axes, {len(spatial)} of them with a direction in space"
        raise UnreadableError(
            source, found, "two or three axes with directions, and at most one of channels", "split it"
        )
    steps = np.array([vectors[axis] for axis in spatial]).T
    if steps[:3, 3:].any() or steps[3:, :3].any():
        raise UnreadableError(source, "a fourth axis with a direction in space", "an axis of channels", "split it")
    return steps, spatial[3] if len(spatial) == 4 else others[0] if others else None


def _affine(source: str, fields: Fields, steps: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Affine in RAS+, mm, and notes on what the header lacks."""
    size, notes = len(steps), []
    space = re.sub(r"(-time|(?<=^...)t)$", "", fields.get("space", "").lower())
    if "spacedirections" in fields and not (space or "spacedimension" in fields):
        raise UnreadableError(source, "space directions without a space", "a space or its dimension", "add it")
    if "spacedimension" in fields and integers(source, "space dimension", fields["spacedimension"], 1) != [size]:
        raise UnreadableError(source, "a space dimension that is not that of its directions", f"{size}", "correct it")
    if space not in (*SPACES, *UNPLACED):
        raise UnreadableError(
            source, "a space that NRRD does not have", "such as left-posterior-superior", "correct it"
        )
    if space in UNPLACED:
        notes.append("no anatomical space: left and right are a guess")
    if "spaceorigin" not in fields:
        notes.append("no space origin: the position is a guess")
    origin = re.fullmatch(r"\(([^()]*)\)", fields.get("spaceorigin", f"({','.join('0' * size)})"))
    if not origin:
        raise UnreadableError(source, "a space origin that is no vector", f"{size} numbers in brackets", "correct it")
    affine = np.eye(4)
    affine[: min(size, 3), : min(size, 3)] = steps[:3, :3]
    affine[: min(size, 3), 3] = numbers(source, "space origin", origin[1].replace(",", " "), size)[:3]
    return np.diag([*SPACES.get(space, SPACES["lps"]), 1]) @ affine, notes


def _check_units(source: str, fields: Fields, channel_axis: int | None) -> None:
    """Raise UnreadableError unless the units of the axes of space, if there are any, are mm."""
    units, of_axes = (re.findall(r'"[^"]*"|\S+', fields.get(name, "")) for name in ("spaceunits", "units"))
    units += [unit for axis, unit in enumerate(of_axes) if axis != channel_axis]
    if {unit.strip('"') for unit in units} - {*UNITS}:
        raise UnreadableError(source, "lengths in another unit", "mm", "convert it")


def _per_axis(source: str, fields: Fields, name: str, dimensions: int) -> list[str]:
    """The words of a field with one for each axis, "" if the header lacks it."""
    words = fields[name].lower().split() if name in fields else [""] * dimensions
    if len(words) != dimensions:
        raise UnreadableError(
            source, f"{len(words)} {name} for {dimensions} axes", "one for each", "correct its header"
        )
    return words


def _directions(source: str, text: str, dimensions: int) -> list[list[float] | None]:
    """Vector of each axis, None for "none"."""
    words = re.findall(r"\([^()]*\)|none", text)
    if len(words) != dimensions or re.sub(r"\([^()]*\)|none|\s", "", text):
        raise UnreadableError(source, "space directions that are no vectors", "one or none for each axis", "correct it")
    parts = [word.strip("()").split(",") for word in words]
    return [
        None if part == ["none"] else numbers(source, "space directions", " ".join(part), len(part)) for part in parts
    ]
