"""Decompress bytes with a verified checksum and a size that is bounded beforehand.

Intel's ISA-L (package isal) takes little more than half of zlib's time.
"""

from __future__ import annotations

from typing import Any

from isal import isal_zlib

from meddiffusers.data.io.library_errors import UnreadableError

MAGIC = b"\x1f\x8b"
LARGEST_RATIO = 1032  # largest compression ratio of deflate
GZIP_OR_ZLIB = 47


def beginning(source: str, data: bytes, size: int) -> bytes:
    """The first `size` bytes of the content of `data`, gzipped or not; fewer if there are fewer."""
    return _inflate(source, data, size)[0] if data[:2] == MAGIC else data[:size]


def exact(source: str, data: bytes, size: int) -> bytes:
    """The data; UnreadableError unless it has `size` bytes."""
    if len(data) != size:
        raise UnreadableError(source, f"{len(data)} bytes", f"the {size} bytes that its header promises")
    return data


def unpacked(source: str, data: bytes, size: int) -> bytes:
    """Decompress gzip or zlib data of `size` bytes.

    Raises:
        UnreadableError: more or fewer bytes, detected before they are allocated; a wrong checksum.
    """
    promised = f"the {size} bytes that its header promises"
    if size > LARGEST_RATIO * len(data):
        raise UnreadableError(source, f"{len(data)} packed bytes", promised)
    parts: list[bytes] = []
    left = size + 1  # one more, to detect too many
    while left and data.strip(b"\0"):  # gzip files may be concatenated and padded with zeros
        part, stream = _inflate(source, data, left)
        parts.append(part)
        left -= len(part)
        if left and not stream.eof:
            raise UnreadableError(source, f"packed data that break off after {size + 1 - left} bytes", promised)
        data = stream.unused_data
    if left != 1:
        raise UnreadableError(source, f"{size + 1 - left if left else f'more than {size}'} bytes", promised)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def whole(source: str, data: bytes, size: int) -> bytes:
    """The content of `data`, gzipped or not, of `size` bytes; raises the errors of `exact` and `unpacked`."""
    return unpacked(source, data, size) if data[:2] == MAGIC else exact(source, data, size)


def _inflate(source: str, data: bytes, size: int) -> tuple[bytes, Any]:
    """At most `size` bytes of a stream, and the object that decompresses it."""
    stream = isal_zlib.decompressobj(GZIP_OR_ZLIB)
    try:
        return stream.decompress(data, size), stream
    except Exception:  # IsalError, of which the stubs say that it is no class
        found = "packed data that are damaged: their codes or their checksum are wrong"
        raise UnreadableError(source, found, "gzip or zlib data") from None
