"""Packed bytes taken apart in one go, with their checksum verified and their size bounded beforehand.

Intel's ISA-L, which the package isal brings, does it in little more than half of the time that zlib takes.
"""

from __future__ import annotations

from isal import isal_zlib

from meddiffusers.data.io.library_errors import UnreadableError

MAGIC = b"\x1f\x8b"
LARGEST_RATIO = 1032  # deflate cannot pack more bytes into one
GZIP_OR_ZLIB = 47


def beginning(data: bytes, size: int) -> bytes:
    """The first `size` bytes of what `data` holds, gzipped or not; fewer where it holds fewer."""
    return isal_zlib.decompressobj(GZIP_OR_ZLIB).decompress(data, size) if data[:2] == MAGIC else data[:size]


def exact(source: str, data: bytes, size: int) -> bytes:
    """The data, which must be `size` bytes; UnreadableError otherwise."""
    if len(data) != size:
        raise UnreadableError(source, f"{len(data)} bytes", f"the {size} bytes that its header promises")
    return data


def unpacked(source: str, data: bytes, size: int) -> bytes:
    """What gzip or zlib packed into `data`, which must be `size` bytes.

    Raises:
        UnreadableError: more or fewer bytes, found before they are allocated.
        IsalError: a wrong checksum, or no packed data.
    """
    promised = f"the {size} bytes that its header promises"
    if size > LARGEST_RATIO * len(data):
        raise UnreadableError(source, f"{len(data)} packed bytes", promised)
    parts: list[bytes] = []
    left = size + 1  # one more, to see what is too long
    while left and data.strip(b"\0"):  # gzip files may follow one another, and zeros may pad the last
        stream = isal_zlib.decompressobj(GZIP_OR_ZLIB)
        parts.append(stream.decompress(data, left))
        left -= len(parts[-1])
        if left and not stream.eof:
            raise UnreadableError(source, f"packed data that break off after {size + 1 - left} bytes", promised)
        data = stream.unused_data
    if left != 1:
        raise UnreadableError(source, f"{size + 1 - left if left else f'more than {size}'} bytes", promised)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def whole(source: str, data: bytes, size: int) -> bytes:
    """All that `data` holds, gzipped or not, which must be `size` bytes; errors as of `exact` and `unpacked`."""
    return unpacked(source, data, size) if data[:2] == MAGIC else exact(source, data, size)
