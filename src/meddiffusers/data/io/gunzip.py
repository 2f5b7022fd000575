"""Compressed bytes taken apart in one go, with their checksum verified and their size bounded beforehand."""

from __future__ import annotations

import zlib

from meddiffusers.data.io.faults import UnreadableError

MAGIC = b"\x1f\x8b"
LARGEST_RATIO = 1032  # deflate cannot pack more bytes into one


def beginning(data: bytes, size: int) -> bytes:
    """The first `size` bytes of what `data` holds, compressed or not; fewer where it holds fewer."""
    return zlib.decompressobj(wbits=31).decompress(data, size) if data[:2] == MAGIC else data[:size]


def whole(source: str, data: bytes, size: int) -> bytes:
    """All that `data` holds, compressed or not, which must be `size` bytes.

    Raises:
        UnreadableError: more or fewer bytes, found before they are allocated; a wrong checksum.
    """
    compressed = data[:2] == MAGIC
    if not compressed or size > LARGEST_RATIO * len(data):
        if len(data) != size:
            kind = "compressed " if compressed else ""
            raise UnreadableError(source, f"{len(data)} {kind}bytes", f"the {size} bytes that its header promises")
        return data
    parts: list[bytes] = []
    left = size + 1  # one more, to see what is too long
    while data.rstrip(b"\0"):  # gzip files may follow one another, and zeros may pad the last
        stream = zlib.decompressobj(wbits=31)
        parts.append(stream.decompress(data, left))
        left -= len(parts[-1])
        if left and not stream.eof:
            raise UnreadableError(source, f"compressed data that end after {size + 1 - left} bytes", f"{size} bytes")
        if not left:
            break
        data = stream.unused_data
    if left != 1:
        found = "more bytes" if left == 0 else f"{size + 1 - left} bytes"
        raise UnreadableError(source, found, f"the {size} bytes that its header promises")
    return parts[0] if len(parts) == 1 else b"".join(parts)
