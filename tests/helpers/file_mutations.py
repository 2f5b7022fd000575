"""Mutate valid files: bytes, spans, header fields, gzip streams and DICOM elements, from a seed."""

from __future__ import annotations

import gzip
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from helpers.file_originals import Original
from pydicom.filebase import DicomBytesIO

Rng = np.random.Generator
NUMBERS = ("0", "-1", "1", "3", "nan", "inf", "1e38", "-1e38", "99999999", "0,8", "", "1e-300", "2147483648", "abc")
BINARY = (0, 1, -1, 2, 255, 32767, -32768, float("nan"), float("inf"), 1e38, -1e38, 1e-38, 0.5)
KEYWORDS = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"),
    *("PhotometricInterpretation", "NumberOfFrames", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    *("ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept", "SOPClassUID"),
    *("SeriesInstanceUID", "PixelData", "FrameTime", "ImageType", "PerFrameFunctionalGroupsSequence"),
    *("SharedFunctionalGroupsSequence", "SegmentSequence", "SegmentationType", "DimensionIndexSequence"),
    *("FrameOfReferenceUID", "SOPInstanceUID", "StudyInstanceUID", "Modality", "InstanceNumber"),
)
LONG = ("x" * 5000).encode()


@dataclass(frozen=True)
class Mutation:
    """A changed copy of an original: its files, and what was done to which."""

    original: Original
    files: dict[str, bytes]
    change: str


def mutations(kinds: list[Original], seed: int, count: int) -> Iterator[Mutation]:
    """Mutations of each original in turn, each of a random kind."""
    for number in range(count):
        rng, original = np.random.default_rng([seed, number]), kinds[number % len(kinds)]
        choices = _choices(original)
        change, files = choices[int(rng.integers(len(choices)))], dict(original.files)
        name = list(files)[int(rng.integers(len(files)))] if original.name == "series" else _victim(original, rng)
        for _ in range(int(rng.integers(1, 3))):
            try:
                files[name] = change(files[name], rng, original.header)
            except (ValueError, IndexError, struct.error, KeyError, AttributeError, TypeError, OverflowError):
                break  # not applicable to what the first change has left
        yield Mutation(original, files, f"{change.__name__} of {name}")


def _victim(original: Original, rng: Rng) -> str:
    """Mostly the first file, which has the header."""
    names = list(original.files)
    return names[0] if len(names) == 1 or rng.random() < 0.7 else names[int(rng.integers(1, len(names)))]


def _choices(original: Original) -> list[Callable[[bytes, Rng, int], bytes]]:
    bytewise = [
        flip_bytes,
        flip_bits_of_header,
        truncate,
        cut_off_in_header,
        delete_span,
        insert_bytes,
        repeat_span,
        swap_spans,
    ]
    name = original.opened.lower()
    if not name or name.endswith(".dcm"):
        return [*bytewise, *[change_element, remove_element, swap_elements, change_meta] * 3]
    if name.endswith((".nrrd", ".nhdr", ".mha", ".mhd")):
        return [
            *bytewise,
            *[change_number, change_word, remove_line, repeat_line, swap_lines, join_lines, lengthen_line] * 2,
        ]
    if name.endswith(".gz"):
        return [*bytewise, damage_gzip_header, damage_gzip_trailer, *[change_packed_field] * 4, flip_packed_bytes]
    return [*bytewise, *[change_field] * 12]


def flip_bytes(data: bytes, rng: Rng, header: int) -> bytes:
    return _flip(data, rng, 0, len(data))


def flip_bits_of_header(data: bytes, rng: Rng, header: int) -> bytes:
    damaged = bytearray(data)
    for place in rng.integers(0, min(header or 400, len(data)), int(rng.integers(1, 4))):
        damaged[place] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def truncate(data: bytes, rng: Rng, header: int) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


def cut_off_in_header(data: bytes, rng: Rng, header: int) -> bytes:
    return data[: int(rng.integers(0, min(header or 600, len(data))))]


def delete_span(data: bytes, rng: Rng, header: int) -> bytes:
    start, length = int(rng.integers(0, len(data))), int(rng.integers(1, 40))
    return data[:start] + data[start + length :]


def insert_bytes(data: bytes, rng: Rng, header: int) -> bytes:
    start = int(rng.integers(0, len(data)))
    return data[:start] + rng.integers(0, 256, int(rng.integers(1, 40)), dtype=np.uint8).tobytes() + data[start:]


def repeat_span(data: bytes, rng: Rng, header: int) -> bytes:
    start, length = int(rng.integers(0, len(data))), int(rng.integers(1, 200))
    return data[: start + length] + data[start:]


def swap_spans(data: bytes, rng: Rng, header: int) -> bytes:
    length = int(rng.integers(1, 9))
    first, second = sorted(rng.integers(0, max(len(data) - length, 1), 2).tolist())
    if first + length > second:
        return data
    one, two = data[first : first + length], data[second : second + length]
    return data[:first] + two + data[first + length : second] + one + data[second + length :]


def change_field(data: bytes, rng: Rng, header: int) -> bytes:
    """Overwrite an aligned number of a binary header."""
    kind = str(rng.choice(["<h", "<i", "<f", ">h", *(["<q", "<d"] if header > 400 else [])]))
    size = struct.calcsize(kind)
    place = int(rng.integers(0, (header or 348) // size)) * size
    value: Any = BINARY[int(rng.integers(len(BINARY)))]
    damaged = bytearray(data)
    struct.pack_into(kind, damaged, place, value if kind[1] in "fd" else int(value) if np.isfinite(value) else 7)
    return bytes(damaged)


def change_packed_field(data: bytes, rng: Rng, header: int) -> bytes:
    return gzip.compress(change_field(gzip.decompress(data), rng, 348), mtime=0)


def flip_packed_bytes(data: bytes, rng: Rng, header: int) -> bytes:
    return gzip.compress(flip_bits_of_header(gzip.decompress(data), rng, 352), mtime=0)


def damage_gzip_header(data: bytes, rng: Rng, header: int) -> bytes:
    return _flip(data, rng, 0, 10)


def damage_gzip_trailer(data: bytes, rng: Rng, header: int) -> bytes:
    return _flip(data, rng, len(data) - 8, len(data))


def change_number(data: bytes, rng: Rng, header: int) -> bytes:
    """Replace a number of a text header."""
    head, rest = _head(data)
    places = list(re.finditer(rb"(?<![\w.])-?\d[\d.e+-]*", head))
    place = places[int(rng.integers(len(places)))]
    return head[: place.start()] + NUMBERS[int(rng.integers(len(NUMBERS)))].encode() + head[place.end() :] + rest


def change_word(data: bytes, rng: Rng, header: int) -> bytes:
    """Replace a word of a text header by another word of it, or by a path."""
    head, rest = _head(data)
    places = list(re.finditer(rb"[\w./-]+", head))
    place = places[int(rng.integers(len(places)))]
    words = [
        *(each[0] for each in places),
        b"/etc/passwd",
        b"../x.raw",
        b"LIST",
        b"none",
        b"(nan,0,0)",
        b"True",
        b"big",
    ]
    return head[: place.start()] + words[int(rng.integers(len(words)))] + head[place.end() :] + rest


def remove_line(data: bytes, rng: Rng, header: int) -> bytes:
    lines, rest = _lines(data)
    lines.pop(int(rng.integers(len(lines))))
    return b"".join(lines) + rest


def repeat_line(data: bytes, rng: Rng, header: int) -> bytes:
    lines, rest = _lines(data)
    lines.insert(int(rng.integers(1, len(lines))), lines[int(rng.integers(len(lines)))])
    return b"".join(lines) + rest


def swap_lines(data: bytes, rng: Rng, header: int) -> bytes:
    lines, rest = _lines(data)
    one, two = rng.integers(0, len(lines), 2).tolist()
    lines[one], lines[two] = lines[two], lines[one]
    return b"".join(lines) + rest


def join_lines(data: bytes, rng: Rng, header: int) -> bytes:
    lines, rest = _lines(data)
    at = int(rng.integers(len(lines)))
    lines[at] = lines[at].rstrip(b"\r\n") + b" "
    return b"".join(lines) + rest


def lengthen_line(data: bytes, rng: Rng, header: int) -> bytes:
    """A long value, a long comment, or a long field that the format does not know."""
    lines, rest = _lines(data)
    nrrd = data.startswith(b"NRRD")
    long = [b"# " + LONG, b"key:=" + LONG] if nrrd else [b"Comment = " + LONG]
    lines.insert(
        int(rng.integers(1, len(lines))),
        [*long, lines[-1].rstrip() + b" " + LONG][int(rng.integers(len(long) + 1))] + b"\n",
    )
    return b"".join(lines) + rest


def change_element(data: bytes, rng: Rng, header: int) -> bytes:
    """Replace the value of a DICOM element by text or a number that it may hold, as stored."""
    dataset = _parse(data)
    places = _places(dataset)
    place, keyword = places[int(rng.integers(len(places)))]
    element = place[keyword]
    if element.VR in ("DS", "IS"):
        values = [NUMBERS[int(rng.integers(len(NUMBERS)))] for _ in range(max(element.VM, 1))]
        kept = [str(each) for each in (element.value if element.VM > 1 else [element.value])]
        mixed = [new if rng.random() < 0.5 else old for new, old in zip(values, kept, strict=False)]
        place[element.tag] = _as_text(element.tag, element.VR, "\\".join(mixed))
    elif element.VR == "US":
        element.value = int(rng.choice([0, 1, 2, 3, 7, 8, 12, 16, 17, 64, 255, 65535, int(rng.integers(0, 65536))]))
    elif element.VR == "SQ":
        element.value = element.value[: int(rng.integers(0, len(element.value) + 1))]
    elif element.VR in ("OB", "OW"):
        element.value = element.value[: 2 * int(rng.integers(0, len(element.value) // 2))]
    else:
        element.value = str(rng.choice(["", "1.2.3", "MR", "RGB", "MONOCHROME1", "PALETTE COLOR", "FRACTIONAL", "x"]))
    return _serialise(dataset)


def remove_element(data: bytes, rng: Rng, header: int) -> bytes:
    dataset = _parse(data)
    places = _places(dataset)
    place, keyword = places[int(rng.integers(len(places)))]
    del place[keyword]
    return _serialise(dataset)


def swap_elements(data: bytes, rng: Rng, header: int) -> bytes:
    """Exchange the values of two elements of one type."""
    dataset = _parse(data)
    places = _places(dataset)
    one, name = places[int(rng.integers(len(places)))]
    alike = [(place, key) for place, key in places if place[key].VR == one[name].VR]
    two, other = alike[int(rng.integers(len(alike)))]
    one[name].value, two[other].value = two[other].value, one[name].value
    return _serialise(dataset)


def change_meta(data: bytes, rng: Rng, header: int) -> bytes:
    """Remove preamble, file meta or transfer syntax, or name another syntax."""
    dataset = _parse(data)
    syntaxes = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"]
    syntaxes += ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.1.99", "1.2.3"]
    chosen = int(rng.integers(4))
    if chosen == 0 and data[128:132] == b"DICM":
        return data[132:]
    if chosen == 1 and data[128:132] == b"DICM":
        return data[: 132 + 12] + data[132 + 12 + struct.unpack_from("<I", data, 140)[0] :]
    name = dataset.file_meta.get("TransferSyntaxUID", "1.2.3")
    new = syntaxes[int(rng.integers(len(syntaxes)))].encode().ljust(len(str(name)), b"\0")
    return data.replace(str(name).encode(), new, 1)


def _flip(data: bytes, rng: Rng, start: int, stop: int) -> bytes:
    damaged = bytearray(data)
    for place in rng.integers(start, stop, int(rng.integers(1, 5))):
        damaged[place] = int(rng.integers(256))
    return bytes(damaged)


def _head(data: bytes) -> tuple[bytes, bytes]:
    """Text header, and what follows it."""
    end = re.search(rb"\n\n|ElementDataFile = [^\n]*\n", data)
    place = end.end() if end else len(data)
    return data[:place], data[place:]


def _lines(data: bytes) -> tuple[list[bytes], bytes]:
    head, rest = _head(data)
    return head.splitlines(keepends=True), rest


def _parse(data: bytes) -> Any:
    return pydicom.dcmread(DicomBytesIO(data), force=True)


def _serialise(dataset: Any) -> bytes:
    stream = DicomBytesIO()
    dataset.save_as(stream, enforce_file_format=False)
    return bytes(stream.getvalue())


def _places(dataset: Any) -> list[tuple[Any, str]]:
    """Known elements, at any depth."""
    found = [(dataset, keyword) for keyword in KEYWORDS if keyword in dataset]
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                found += _places(item)
    return found


def _as_text(tag: Any, kind: str, text: str) -> Any:
    raw = text.encode()
    raw += b" " * (len(raw) % 2)
    return pydicom.dataelem.RawDataElement(tag, kind, len(raw), raw, 0, False, True, True)
