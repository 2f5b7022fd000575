"""Find the files of a DICOM series by their content, not by their names."""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from meddiffusers.data.io.library_errors import UnreadableError, decoding
from meddiffusers.utils.optional import optional_import

KIND = "a DICOM image"
SUFFIXES = (".dcm", ".dicom", ".ima")
PREAMBLE = 132  # bytes, with the magic number
FIRST = (0x00020000, 0x00020001, 0x00020010, 0x00080000, 0x00080001, 0x00080005, 0x00080008, 0x00080016, 0x00080018)
LONG = (b"OB", b"OW", b"OF", b"OD", b"OL", b"SQ", b"UC", b"UN", b"UR", b"UT")  # with a length of four bytes
DEFLATED, EXPLICIT = b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.1"
HEAD = 1 << 24  # bytes in which a header ends
PIXELS = ("Image", "Dose", "Segmentation", "Parametric Map")  # of storage classes with pixels


def datasets_in(path: Path | Sequence[Path]) -> list[Any]:
    """Read the data sets of a file, of files, or of the folder's single series.

    Raises:
        UnreadableError: the folder has no series, several, or a file that breaks off.
    """
    if not isinstance(path, Path):
        return [_dataset(file) for file in path]
    if path.is_file():
        return [_dataset(path)]
    series, others = defaultdict(list), []
    for file in sorted(path.iterdir()):
        if not file.is_file() or file.name.startswith(".") or file.name.upper() == "DICOMDIR":
            continue
        if file.suffix.lower() not in SUFFIXES and not is_dicom(file):
            others.append(file)
        elif (uid := _series_uid(file)) is not None:
            series[uid].append(file)
    if not series:
        raise UnreadableError(str(path), "no DICOM image", "the files of one DICOM series", "name the folder with them")
    _check_others(others, {_numbered(file) for files in series.values() for file in files})
    if len(series) > 1:
        kinds = "; ".join(_summary(files) for files in series.values())
        raise UnreadableError(str(path), f"{len(series)} series: {kinds}", "one", "put each into a folder of its own")
    return [_dataset(file) for file in next(iter(series.values()))]


def is_dicom(file: Path) -> bool:
    """Whether the file has DICOM's magic number, or begins with an element that files without it begin with."""
    with file.open("rb") as opened:
        head = opened.read(PREAMBLE)
    tag = int.from_bytes(head[:2], "little") << 16 | int.from_bytes(head[2:4], "little")
    explicit, length = head[4:6].isalpha() and head[4:6].isupper(), int.from_bytes(head[4:8], "little")
    return head[128:] == b"DICM" or (tag in FIRST and (explicit or length <= 128))


def parse(file: Path, **options: Any) -> Any:
    """Parse a DICOM file, also without preamble and magic number.

    From memory: a length in a damaged header is limited by the file's size there, and not allocated beforehand.

    Raises:
        UnreadableError: a deflated data set that is longer than its header promises, detected before it is allocated.
    """
    pydicom = optional_import("pydicom", "dicom")
    data = file.read_bytes()
    if DEFLATED in data[: (end := _end_of_meta(data))]:
        data = _inflated(str(file), data, end)
    return pydicom.dcmread(BytesIO(data), force=True, **options)


def _end_of_meta(data: bytes) -> int:
    """Offset of the data set, behind preamble and file meta; these are in explicit little endian."""
    place = PREAMBLE if data[128:PREAMBLE] == b"DICM" else 0
    while data[place : place + 2] == b"\2\0":
        long = data[place + 4 : place + 6] in LONG
        width, start = (4, place + 8) if long else (2, place + 6)
        place = start + width + int.from_bytes(data[start : start + width], "little")
    return place


def _inflated(source: str, data: bytes, start: int) -> bytes:
    """The file without its compression, which pydicom would undo whatever its size."""
    pydicom = optional_import("pydicom", "dicom")
    meta = data[:start].replace(DEFLATED, EXPLICIT.ljust(len(DEFLATED), b"\0"))
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    head = stream.decompress(data[start:], HEAD)
    if stream.eof:
        return meta + head
    header = pydicom.dcmread(BytesIO(meta + head), force=True, stop_before_pixels=True)
    needed = (header.get(name) for name in ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel"))
    promised = math.prod(int(value or 0) for value in needed) * int(header.get("NumberOfFrames") or 1) // 8
    rest = stream.decompress(stream.unconsumed_tail, promised + 1)
    if not stream.eof:
        found = f"a deflated data set of more than {len(head) + promised} bytes"
        raise UnreadableError(source, found, f"pixels of {promised} bytes, as its header promises")
    return meta + head + rest


def _dataset(file: Path, **options: Any) -> Any:
    with decoding(str(file), KIND):
        dataset = parse(file, **options)
        if "Rows" not in dataset or "Columns" not in dataset:
            raise UnreadableError(str(file), "no size of an image in its header", KIND)
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = _guessed_syntax(dataset, str(file))
        return dataset


def _guessed_syntax(dataset: Any, source: str) -> str:
    """Uncompressed transfer syntax of a file that does not name it."""
    uid = optional_import("pydicom.uid", "dicom")
    if "PixelData" in dataset and dataset.get_item("PixelData").length == 0xFFFFFFFF:
        expected = "the name of their compression"
        raise UnreadableError(source, "compressed pixels and no TransferSyntaxUID", expected, "export it again")
    implicit, little = dataset.original_encoding
    if implicit:
        return str(uid.ImplicitVRLittleEndian)
    return str(uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian)


def _series_uid(file: Path) -> str | None:
    """Series UID of a DICOM image, None for other DICOM files; UnreadableError if the header breaks off."""
    pydicom = optional_import("pydicom", "dicom")
    with decoding(str(file), KIND):
        tags = ["SeriesInstanceUID", "Rows", "SOPClassUID"]
        dataset = parse(file, stop_before_pixels=True, specific_tags=tags)
        if "Rows" in dataset:
            return str(dataset.get("SeriesInstanceUID", ""))
        kind = pydicom.uid.UID(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or "")
        without_pixels = kind in pydicom.uid.UID_dictionary and not any(word in kind.name for word in PIXELS)
        if without_pixels or (kind.is_valid and kind.is_private and "SeriesInstanceUID" in dataset):
            return None
        raise UnreadableError(str(file), "a header that breaks off before the size of the image", KIND)


def _check_others(others: Iterable[Path], names: set[str]) -> None:
    """Raise UnreadableError for a file named like the images that has lost its beginning, or everything behind it."""
    for file in others:
        with file.open("rb") as opened:
            head = opened.read(PREAMBLE)
        if _numbered(file) in names and (len(head) < PREAMBLE or b"\0" in head):  # no text
            raise UnreadableError(str(file), f"{len(head)} bytes without DICOM's magic number", KIND)


def _numbered(file: Path) -> str:
    """Suffix by which the files of a series are alike; suffixes with a number differ and do not count."""
    suffix = file.suffix.lower()
    return "" if suffix[1:].isdigit() else suffix


def _summary(files: list[Path]) -> str:
    dataset = _dataset(files[0], stop_before_pixels=True)
    return f"{len(files)} files of {dataset.Columns}×{dataset.Rows} pixels such as {files[0].name}"
