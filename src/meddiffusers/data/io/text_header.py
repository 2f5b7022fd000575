"""What NRRD and MetaImage have in common: a text header, and voxels behind it or in a file beside it.

Both are decoded here and not by ITK, which trusts the sizes in a header, follows it to any file, and ignores checksums.
"""

from __future__ import annotations

import bz2
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from meddiffusers.data.io.gunzip import exact, unpacked
from meddiffusers.data.io.library_errors import UnreadableError
from meddiffusers.utils.numbers import parse_number

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
LONGEST_HEADER = 1 << 24  # bytes; diffusion series have a line for each direction
DIMENSIONS = (2, 3, 4)


def numbers(source: str, name: str, text: str, count: int) -> list[float]:
    """The finite numbers of a header field; UnreadableError unless there are `count`."""
    expected = f"{count} number{'s' * (count > 1)}"
    if not text.strip():
        raise UnreadableError(source, f"a header without {name}", expected)
    try:
        found = [parse_number(word) for word in text.split()]
    except ValueError:
        comma = "a decimal comma" if "," in text else "other than numbers"
        raise UnreadableError(source, f"{name} with {comma}", f"{expected} such as 0.8", "correct it") from None
    if len(found) != count or not all(map(math.isfinite, found)):
        raise UnreadableError(source, f"{name} of {' '.join(f'{each:g}' for each in found[:8])}", f"{expected}, finite")
    return found


def integers(source: str, name: str, text: str, count: int) -> list[int]:
    """The positive integers of a header field; UnreadableError unless there are `count`."""
    found = numbers(source, name, text, count)
    if not all(each.is_integer() and each > 0 for each in found):
        raise UnreadableError(source, f"{name} of {' '.join(f'{each:g}' for each in found)}", "positive integers")
    return [int(each) for each in found]


def data_beside(path: Path, name: str) -> Path:
    """The file that a header names; UnreadableError unless it is a file in the header's folder or below it.

    Links are followed out of the folder only if the header is a link itself, as in a repository of git-annex.
    """
    file, source = path.parent / name, str(path)
    inside = "\0" not in name and not Path(name).is_absolute() and ".." not in Path(name).parts
    if not inside or not (path.is_symlink() or file.resolve().is_relative_to(path.parent.resolve())):
        raise UnreadableError(source, "voxels outside its folder", "a file in it", "copy both files into one folder")
    if not file.is_file():
        raise UnreadableError(
            source, "no file with the voxels that its header names", "it beside it", "copy both files"
        )
    return file


def decoded(source: str, data: bytes, packing: str, dtype: np.dtype, count: int) -> np.ndarray:
    """Decode `count` values, which must be all of `data`.

    Args:
        source: for messages.
        data: as stored.
        packing: "raw", "gzip", "bzip2", "hex" or "text".
        dtype: with byte order.
        count: number of values according to the header.
    """
    size = count * dtype.itemsize
    if packing == "text":
        return _from_text(source, data, dtype, count)
    try:
        if packing == "hex":
            data = bytes.fromhex(data[: 4 * size + 2].decode("latin-1")) + data[4 * size + 2 :]
        elif packing == "bzip2":
            stream = bz2.BZ2Decompressor()
            data = stream.decompress(data, size + 1)
            if len(data) <= size and (not stream.eof or stream.unused_data):
                raise ValueError("a stream that breaks off before its checksum, or with something behind it")
    except (ValueError, OSError):
        raise UnreadableError(source, f"data that are not {packing}, or damaged", f"{size} bytes packed so") from None
    unpack: Callable[[str, bytes, int], bytes] = unpacked if packing == "gzip" else exact
    return np.frombuffer(unpack(source, data, size), dtype)


def to_channels(values: np.ndarray, sizes: Sequence[int], channel_axis: int | None) -> np.ndarray:
    """Arrange values, the first axis fastest, as (C, X, Y, Z) in the machine's byte order; a slice has Z = 1."""
    array = values.reshape(sizes, order="F")
    array = array[None] if channel_axis is None else np.moveaxis(array, channel_axis, 0)
    array = array[..., None] if array.ndim == 3 else array
    return array.astype(array.dtype.newbyteorder("="))


def _from_text(source: str, data: bytes, dtype: np.dtype, count: int) -> np.ndarray:
    words = data.split()
    if b"_" in data:  # which Python ignores between digits
        raise UnreadableError(source, "text that is no value", f"values of the type {dtype}")
    if len(words) != count:
        raise UnreadableError(source, f"{len(words)} values as text", f"the {count} that its header promises")
    parse: Callable[[bytes], float] = float if dtype.kind == "f" else int
    try:
        return np.array([parse(word) for word in words], dtype.newbyteorder("="))
    except (ValueError, OverflowError):
        raise UnreadableError(source, "text that is no value", f"values of the type {dtype}") from None
