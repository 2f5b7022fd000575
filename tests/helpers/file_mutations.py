"""Mutate valid files: bytes, spans, header fields, gzip streams and DICOM elements, from a seed."""

from __future__ import annotations

import gzip
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from helpers.dicom_mutations import NUMBERS, Rng, change_element, change_meta, remove_element, swap_elements
from helpers.file_originals import Original

BINARY = (0, 1, -1, 2, 255, 32767, -32768, float("nan"), float("inf"), 1e38, -1e38, 1e-38, 0.5)
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
