"""Decompress bytes with a verified checksum and a size that is bounded beforehand.

Intel's ISA-L (package isal) takes little more than half of zlib's time.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from isal import igzip, isal_zlib

from meddiffusers.data.io.library_errors import UnreadableError

MAGIC = b"\x1f\x8b"
LARGEST_RATIO = 1032  # largest compression ratio of deflate
GZIP_OR_ZLIB = 47


def beginning(source: str, data: bytes, size: int) -> bytes:
    """The first `size` bytes of the content of `data`, gzipped or not; fewer if there are fewer."""
    if data[:2] != MAGIC:
        return data[:size]
    content, stream = _inflate(source, data, size)
    if len(content) < size and stream.unused_data.strip(b"\0"):
        content += _further(source, stream.unused_data, size - len(content))
    return content


def exact(source: str, data: bytes, size: int) -> bytes:
    """The data; UnreadableError unless it has `size` bytes."""
    if len(data) != size:
        raise UnreadableError(source, f"{len(data)} bytes", f"the {size} bytes that its header promises")
    return data


def unpacked(source: str, data: bytes, size: int, behind: int = 0) -> bytes:
    """Decompress gzip or zlib data of `size` bytes, and up to `behind` more.

    Raises:
        UnreadableError: more or fewer bytes, detected before they are allocated; a wrong checksum.
    """
    promised = f"the {size} bytes that its header promises"
    if size > LARGEST_RATIO * len(data):
        raise UnreadableError(source, f"{len(data)} packed bytes", promised)
    most = size + behind
    content, stream = _inflate(source, data, most + 1)  # one more, to detect too many
    if len(content) <= most and not stream.eof:
        raise UnreadableError(source, f"packed data that break off after {len(content)} bytes", promised)
    if len(content) <= most and stream.unused_data.strip(b"\0"):  # gzip files may be concatenated and padded with zeros
        content += _further(source, stream.unused_data, most + 1 - len(content))
    if not size <= len(content) <= most:
        found = f"{len(content)}" if len(content) <= most else f"more than {most}"
        raise UnreadableError(source, f"{found} bytes", promised)
    return content


def is_bare(data: bytes, size: int) -> bool:
    """Whether `data` is one gzip stream of `size` bytes without names or comments, and nothing before or behind it."""
    if data[3:4] != b"\0":  # flags of names, comments and further fields
        return False
    content, stream = _inflate("", data, size + 1)
    return len(content) == size and stream.eof and not stream.unused_data


def whole(source: str, data: bytes, size: int) -> bytes:
    """The content of `data`, gzipped or not, of `size` bytes; raises the errors of `exact` and `unpacked`."""
    return unpacked(source, data, size) if data[:2] == MAGIC else exact(source, data, size)


def _further(source: str, data: bytes, size: int) -> bytes:
    """At most `size` bytes of concatenated gzip streams, which may be many."""
    try:
        with igzip.GzipFile(fileobj=BytesIO(data)) as file:
            return bytes(file.read(size))
    except Exception:
        raise UnreadableError(source, "packed data that are damaged or break off", "gzip or zlib data") from None


def _inflate(source: str, data: bytes, size: int) -> tuple[bytes, Any]:
    """At most `size` bytes of a stream, and the object that decompresses it."""
    stream = isal_zlib.decompressobj(GZIP_OR_ZLIB)
    try:
        return stream.decompress(data, size), stream
    except Exception:  # IsalError, of which the stubs say that it is no class
        found = "packed data that are damaged: their codes or their checksum are wrong"
        raise UnreadableError(source, found, "gzip or zlib data") from None
