"""Links to scans, and copies of scans, of another subject."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from meddiffusers.data import Scan, write
from meddiffusers.datasets.public import DatasetError, load_scans


def scan(path: Path, value: int) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    return write(Scan(np.full((2, 3, 4), value, np.int16), np.eye(4)), path)


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
