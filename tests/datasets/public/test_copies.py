"""Files that a folder has several times."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from meddiffusers.data import Scan, write
from meddiffusers.datasets.public import load_scans
from meddiffusers.datasets.public.copies import SAMPLE, SAMPLES, copied
from meddiffusers.datasets.public.errors import DatasetError


def scan(path: Path, value: int) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    return write(Scan(np.full((2, 3, 4), value, np.int16), np.eye(4)), path)


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


@pytest.mark.parametrize("hard", [False, True])
def test_a_link_to_another_subjects_scan_is_refused(tmp_path: Path, hard: bool) -> None:
    first = scan(tmp_path / "p1" / "t1.nii", 1)
    (tmp_path / "p2").mkdir()
    scan(tmp_path / "p3" / "t1.nii", 3)
    (os.link if hard else os.symlink)(first, tmp_path / "p2" / "t1.nii")
    with pytest.raises(DatasetError, match=r"p2: t1\.nii is a link to t1\.nii of p1; expected one owner"):
        load_scans(tmp_path)
    assert {*load_scans(tmp_path, skip_invalid=True)["train"]["subject"]} <= {"p1", "p3"}


def test_a_copy_of_another_subjects_scan_is_noted_and_a_label_map_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for subject, value in (("p1", 1), ("p2", 1), ("p3", 3)):
        scan(tmp_path / subject / "t1.nii", value)
        scan(tmp_path / subject / "seg.nii", 0)
    load_scans(tmp_path)
    assert "p1/t1.nii, p2/t1.nii have the same content, and are of p1, p2: remove the copies" in caplog.text
    assert "seg.nii" not in caplog.text
