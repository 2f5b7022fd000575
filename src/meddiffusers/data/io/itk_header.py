"""Check that an NRRD or MetaImage file is complete: ITK ignores checksums and trusts the sizes in the header."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from meddiffusers.data.io.gunzip import LARGEST_RATIO, exact, unpacked
from meddiffusers.data.io.library_errors import UnreadableError

LONGEST_HEADER = 1 << 16
_WHOLE = ("CHAR", "SHORT", "INT", "LONG", "LONG_LONG")
METAIMAGE_TYPES = {f"MET_{kind}" for name in _WHOLE for kind in (name, f"U{name}")} | {"MET_FLOAT", "MET_DOUBLE"}


@dataclass(frozen=True)
class Stored:
    """Voxels as stored: their bytes and encoding ("raw", "gzip", or another that is left to ITK)."""

    voxels: bytes
    packing: str

    def check(self, source: str, promised: int) -> None:
        """Raise UnreadableError or IsalError unless there are `promised` bytes with a correct checksum."""
        if promised > LARGEST_RATIO * len(self.voxels):
            found = f"{len(self.voxels)} bytes of voxels"
            raise UnreadableError(source, found, f"the {promised} that its header promises")
        if self.packing == "gzip":
            unpacked(source, self.voxels, promised)
        elif self.packing == "raw":
            exact(source, self.voxels, promised)


def stored_voxels(path: Path) -> Stored:
    """Bytes of the voxels, from the file or the data file that its header names."""
    data, source = path.read_bytes(), str(path)
    nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    fields, start = (_nrrd_header if nrrd else _metaimage_header)(data)
    name = fields.get("data file", fields.get("datafile", "local")) if nrrd else fields.get("elementdatafile", "")
    if not name or not (nrrd or fields.get("elementtype") in METAIMAGE_TYPES):
        raise UnreadableError(source, "no known ElementType or no ElementDataFile", "a header of MetaImage")
    if name.startswith("LIST") or "%" in name:
        raise UnreadableError(source, "voxels in many files", "one file", "join them")
    file = path if name.lower() == "local" else path.parent / name
    if not file.is_file():
        raise UnreadableError(source, f"no file {name} beside it", "the voxels there", "copy both files")
    voxels = data[start:] if file == path else file.read_bytes()
    return Stored(voxels, _nrrd_packing(fields) if nrrd else _metaimage_packing(fields))


def _nrrd_header(data: bytes) -> tuple[dict[str, str], int]:
    """Fields up to the first empty line, and the offset of the voxels."""
    end = re.search(rb"\r?\n\r?\n", data[:LONGEST_HEADER])
    text = data[: end.start() if end else LONGEST_HEADER].decode("latin-1")
    found = re.findall(r"^([^#:\r\n]+): *([^\r\n]*)", text, re.MULTILINE)
    return {name.strip().lower(): value.strip() for name, value in found}, end.end() if end else len(data)


def _metaimage_header(data: bytes) -> tuple[dict[str, str], int]:
    """Fields up to ElementDataFile, the last one, and the offset of the voxels."""
    end = re.search(rb"^ElementDataFile *= *[^\r\n]*\r?\n?", data[:LONGEST_HEADER], re.MULTILINE)
    text = data[: end.end() if end else LONGEST_HEADER].decode("latin-1")
    found = re.findall(r"^(\w+) *= *([^\r\n]*)", text, re.MULTILINE)
    return {name.lower(): value.strip() for name, value in found}, end.end() if end else len(data)


def _nrrd_packing(fields: dict[str, str]) -> str:
    encoding = fields.get("encoding", "").lower()
    skips = any(fields.get(name, "0") != "0" for name in ("byte skip", "line skip", "byteskip", "lineskip"))
    return "gzip" if encoding in ("gzip", "gz") else "other" if skips else encoding


def _metaimage_packing(fields: dict[str, str]) -> str:
    if fields.get("compresseddata", "").lower() == "true":
        return "gzip"
    binary = fields.get("binarydata", "true").lower() == "true" and fields.get("headersize", "0") == "0"
    return "raw" if binary else "other"
