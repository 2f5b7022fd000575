"""Files that a folder has several times."""

from __future__ import annotations

import gzip
from pathlib import Path

from meddiffusers.datasets.subjects.copies import SAMPLE, SAMPLES, copied


def test_copies_are_told_by_content_and_not_by_size_or_samples(tmp_path: Path) -> None:
    content = bytearray(2 * SAMPLES * SAMPLE)
    paths = [tmp_path / name for name in "abcd"]
    paths[0].write_bytes(content)
    paths[1].write_bytes(content)
    content[SAMPLE + 1] = 1  # between the samples
    paths[2].write_bytes(content)
    paths[3].write_bytes(content + b"1")
    assert copied(paths) == [[paths[0], paths[1]]]


def test_folders_are_compared_by_their_files(tmp_path: Path) -> None:
    for folder, names in (("a", "12"), ("b", "21"), ("c", "13")):
        (tmp_path / folder).mkdir()
        for place, name in enumerate(names):
            (tmp_path / folder / str(place)).write_text(name)
    assert copied([tmp_path / "a", tmp_path / "b", tmp_path / "c"]) == [[tmp_path / "a", tmp_path / "b"]]


def test_packed_files_are_compared_by_what_they_contain(tmp_path: Path) -> None:
    content, other = b"voxels" * 99, b"Voxels" * 99
    files = {"a": content, "b": gzip.compress(content, 1), "c": gzip.compress(content, 9), "d": gzip.compress(other)}
    files |= {"e": other, "f": gzip.compress(b"short"), "g": b"\x1f\x8b", "h": b"\x1f\x8b"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    groups = [[path.name for path in group] for group in copied(tmp_path / name for name in "abcdefgh")]
    assert sorted(groups) == [["a", "b", "c"], ["d", "e"], ["g", "h"]]
