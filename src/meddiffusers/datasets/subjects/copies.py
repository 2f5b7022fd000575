"""Find files that are in a folder several times: links, and copies under other names."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

SAMPLES, SAMPLE = 16, 4096  # parts of a file that are compared before it is read completely, and their bytes


def copied(paths: Iterable[Path]) -> list[list[Path]]:
    """Groups of two or more files, or folders of files, with the same content; each group in the given order.

    Files are read only as far as they have to be: completely if size and samples agree.
    """
    groups = [[*dict.fromkeys(paths)]]
    for key in (_sizes, _samples, _digests):
        groups = [same for group in groups for same in _grouped(group, key) if len(same) > 1]
    return groups


def _grouped(paths: Sequence[Path], key: Callable[[Path], Any]) -> Iterable[list[Path]]:
    groups = defaultdict[Any, list[Path]](list)
    for path in paths:
        groups[key(path)].append(path)
    return groups.values()


def _files(path: Path) -> list[Path]:
    return [file for file in sorted(path.iterdir()) if file.is_file()] if path.is_dir() else [path]


def _sizes(path: Path) -> tuple[int, ...]:
    return tuple(sorted(file.stat().st_size for file in _files(path)))


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
