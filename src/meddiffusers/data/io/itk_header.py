"""Whether the voxels of an NRRD or MetaImage file are all there: ITK skips checksums and trusts the header's sizes."""

from __future__ import annotations

import re
from pathlib import Path

from meddiffusers.data.io.faults import UnreadableError
from meddiffusers.data.io.gunzip import LARGEST_RATIO, exact, unpacked

LONGEST_HEADER = 1 << 16
TEXT = ("ascii", "text", "txt", "hex", "bzip2", "bz2")  # what is left to ITK to check


def check_voxels(path: Path, promised: int) -> None:
    """UnreadableError, or zlib.error, where the stored voxels are not the `promised` bytes or have a wrong checksum."""
    data = path.read_bytes()
    nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    fields, start = (_nrrd_header if nrrd else _metaimage_header)(data)
    name = fields.get("data file", fields.get("datafile", "")) if nrrd else fields.get("elementdatafile", "")
    if not nrrd and not name:
        raise UnreadableError(str(path), "no ElementDataFile in its header", "a MetaImage header")
    if name.lower() in ("", "local"):
        voxels = data[start:]
    elif name.startswith("LIST") or "%" in name:
        raise UnreadableError(str(path), "voxels in many files", "one file", "join them")
    else:
        voxels = (path.parent / name).read_bytes()
    source = str(path)
    if promised > LARGEST_RATIO * len(voxels):
        raise UnreadableError(source, f"{len(voxels)} bytes of voxels", f"the {promised} that its header promises")
    packing = fields.get("encoding", "raw").lower() if nrrd else _metaimage_packing(fields)
    if packing in ("gzip", "gz", "zlib"):
        unpacked(source, voxels, promised)
    elif packing in TEXT or _skips(fields):
        return
    else:
        exact(source, voxels, promised)


def _nrrd_header(data: bytes) -> tuple[dict[str, str], int]:
    """Fields up to the first empty line, and where the voxels start."""
    end = re.search(rb"\r?\n\r?\n", data[:LONGEST_HEADER])
    text = data[: end.start() if end else LONGEST_HEADER].decode("latin-1")
    found = re.findall(r"^([^#:\r\n]+): *([^\r\n]*)", text, re.MULTILINE)
    return {name.strip().lower(): value.strip() for name, value in found}, end.end() if end else len(data)


def _metaimage_header(data: bytes) -> tuple[dict[str, str], int]:
    """Fields up to ElementDataFile, which is the last, and where the voxels start."""
    end = re.search(rb"^ElementDataFile *= *[^\r\n]*\r?\n?", data[:LONGEST_HEADER], re.MULTILINE)
    text = data[: end.end() if end else LONGEST_HEADER].decode("latin-1")
    found = re.findall(r"^(\w+) *= *([^\r\n]*)", text, re.MULTILINE)
    return {name.lower(): value.strip() for name, value in found}, end.end() if end else len(data)


def _metaimage_packing(fields: dict[str, str]) -> str:
    if fields.get("compresseddata", "").lower() == "true":
        return "zlib"
    return "raw" if fields.get("binarydata", "true").lower() == "true" else "ascii"


def _skips(fields: dict[str, str]) -> bool:
    """Whether voxels start somewhere inside their file."""
    return any(
        fields.get(name, "0") != "0" for name in ("byte skip", "line skip", "byteskip", "lineskip", "headersize")
    )
