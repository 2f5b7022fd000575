"""Find files that are in a folder several times: links, and copies under other names."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

MAGIC, BLOCK = b"\x1f\x8b", 1 << 20
SHORTEST = 18  # bytes of a gzip file
SAMPLES, SAMPLE = 16, 4096  # parts of a file that are compared before it is read completely, and their bytes


def copied(paths: Iterable[Path]) -> list[list[Path]]:
    """Groups of two or more files, or folders of files, with the same content; each group in the given order.

    Gzip files count by what they contain, of which they store the size and a checksum. Others are read only as far as
    they have to be: completely if size and samples agree.
    """
    groups = [group for group in _grouped([*dict.fromkeys(paths)], _sizes) if len(group) > 1]
    packed = [group for group in groups if any(map(_is_packed, group))]
    plain = [group for group in groups if not any(map(_is_packed, group))]
    for key in (_samples, _digests):
        plain = [same for group in plain for same in _grouped(group, key) if len(same) > 1]
    return plain + [same for group in packed for same in _grouped(group, _checksum) if len(same) > 1]


def _grouped(paths: Sequence[Path], key: Callable[[Path], Any]) -> Iterable[list[Path]]:
    groups = defaultdict[Any, list[Path]](list)
    for path in paths:
        groups[key(path)].append(path)
    return groups.values()


def _files(path: Path) -> list[Path]:
    return [file for file in sorted(path.iterdir()) if file.is_file()] if path.is_dir() else [path]


def _is_packed(path: Path) -> bool:
    if path.is_dir() or path.stat().st_size < SHORTEST:
        return False
    with path.open("rb") as file:
        return file.read(2) == MAGIC


def _trailer(path: Path) -> tuple[int, int]:
    """Checksum and size of the content of a gzip file of one stream."""
    with path.open("rb") as file:
        file.seek(-8, 2)
        checksum, size = struct.unpack("<II", file.read())
    return checksum, size


def _sizes(path: Path) -> tuple[int, ...]:
    if _is_packed(path):
        return (_trailer(path)[1],)
    return tuple(sorted(file.stat().st_size for file in _files(path)))


def _checksum(path: Path) -> int | Path:
    if path.is_dir():
        return path  # no file is a copy of it
    if _is_packed(path):
        return _trailer(path)[0]
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _samples(path: Path) -> tuple[bytes, ...]:
    return tuple(sorted(map(_sampled, _files(path))))


def _sampled(file: Path) -> bytes:
    size, digest = file.stat().st_size, hashlib.sha256()
    with file.open("rb") as opened:
        for part in range(SAMPLES):
            opened.seek(part * max(size - SAMPLE, 0) // (SAMPLES - 1))
            digest.update(opened.read(SAMPLE))
    return digest.digest()


def _digests(path: Path) -> tuple[bytes, ...]:
    return tuple(sorted(map(_digest, _files(path))))


def _digest(file: Path) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()
