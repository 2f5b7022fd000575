from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.rows import known_of, row_of, values_of, voxels
from helpers.small_subjects import small_subject

from meddiffusers.data.io import write
from meddiffusers.datasets.public import DatasetError, oasis3

SESSIONS = {"OAS30001": (129, 757), "OAS30002": (0, 653, 2340), "OAS30003": (1210,)}


def scan_path(folder: Path, subject: str, days: int, name: str) -> Path:
    start = f"sub-{subject}_ses-d{days:04d}"
    return folder / f"sub-{subject}" / f"ses-d{days:04d}" / "anat" / f"{start}_{name}.nii.gz"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for subject, all_days in SESSIONS.items():
        for days in all_days:
            images = small_subject(days, ("t1", "t2")).images
            write(images["t1"], scan_path(tmp_path, subject, days, "run-01_T1w"))
            write(images["t2"], scan_path(tmp_path, subject, days, "run-02_T1w"))  # a second run, to be passed over
            if days != 653:
                write(images["t2"], scan_path(tmp_path, subject, days, "acq-TSE_T2w"))
    text = "OASISID,Subject_accession,AgeatEntry,AgeatDeath,GENDER\nOAS30001,x,65.1493,,2\nOAS30002,y,67.2526,,1\n"
    (tmp_path / "OASIS3_demographics.csv").write_text(text)
    return tmp_path


def test_a_row_for_each_session_with_the_age_at_it(folder: Path) -> None:
    data = oasis3(folder)
    assert list(data["train"].features) == ["subject", "session", "days", "t1", "t2", "age", "sex"]
    known = known_of(data, "d2340", "session")
    assert known.pop("age") == pytest.approx(67.2526 + 2340 / 365.25)
    assert known == {"subject": "OAS30002", "session": "d2340", "days": 2340, "sex": "M"}
    assert known_of(data, "d0129", "session")["sex"] == "F"
    assert known_of(data, "d1210", "session")["age"] is None
    row, images = row_of(data, "d0757", "session"), small_subject(757, ("t1", "t2")).images
    for name in ("t1", "t2"):
        np.testing.assert_array_equal(voxels(row[name]), images[name].array[0])
    assert row_of(data, "d0653", "session")["t2"] is None


@pytest.mark.parametrize("seed", range(4))
def test_sessions_of_a_subject_stay_together(folder: Path, seed: int) -> None:
    subjects = values_of(oasis3(folder, seed=seed))
    assert not set(subjects["train"]) & set(subjects["test"])
    assert len(set(subjects["test"])) == 1


def test_a_damaged_session_excludes_its_subject(folder: Path) -> None:
    file = scan_path(folder, "OAS30002", 653, "run-01_T1w")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DatasetError, match=r"has 1 issue:\n  - OAS30002: .*d0653"):
        oasis3(folder)
    assert set(oasis3(folder, skip_invalid=True, test_fraction=0)["train"]["subject"]) == {"OAS30001", "OAS30003"}


def test_another_layout_is_refused_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="layout of OASIS-3; expected files such as sub-OAS30001/ses-d0129/anat"):
        oasis3(tmp_path)
