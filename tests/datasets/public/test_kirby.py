from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.rows import all_of, known_of, row_of, values_of, voxels
from helpers.small_subjects import small_subject

from meddiffusers.data.io import write
from meddiffusers.datasets.public import DatasetError, kirby21

OWNERS = {1: "113", 2: "142", 3: "113", 4: "127", 5: "142", 6: "127"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "kirby"
    for session in OWNERS:
        images = small_subject(session, ("t1", "flair")).images
        write(images["t1"], folder / f"KKI2009-{session:02d}" / f"KKI2009-{session:02d}-MPRAGE.nii")
        if session != 6:
            write(images["flair"], folder / f"KKI2009-{session:02d}" / f"KKI2009-{session:02d}-FLAIR.nii.gz")
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "sessions.csv"
    rows = [f"KKI2009-{session:02d},0{owner},F,25" for session, owner in OWNERS.items()]
    path.write_text("\n".join(["session,subject,sex,age", "3,0113,F,25", *rows[:2], *rows[3:]]))  # a short id as well
    return path


@pytest.mark.parametrize("seed", range(4))
def test_both_sessions_of_a_subject_stay_together(folder: Path, table: Path, seed: int) -> None:
    subjects = values_of(kirby21(folder, table=table, seed=seed))
    assert (len(subjects["train"]), len(subjects["test"])) == (4, 2)
    assert len(set(subjects["test"])) == 1


def test_columns(folder: Path, table: Path) -> None:
    data = kirby21(folder, table=table)
    known = {"subject": "0113", "session": "KKI2009-03", "sex": "F", "age": 25.0}
    assert known_of(data, "KKI2009-03", "session") == known
    row = row_of(data, "KKI2009-05", "session")
    for name, scan in small_subject(5, ("t1", "flair")).images.items():
        np.testing.assert_array_equal(voxels(row[name]), scan.array[0])
    assert row_of(data, "KKI2009-06", "session")["flair"] is None


def test_without_a_table_nothing_is_split(folder: Path, table: Path) -> None:
    with pytest.raises(ValueError, match=r"KKI2009-01 and 5 more are unknown.*one subject into both parts"):
        kirby21(folder)
    data = kirby21(folder, test_fraction=0)
    assert (list(data), data["train"]["subject"][:]) == (["train"], [None] * 6)
    table.write_text("\n".join(table.read_text().splitlines()[:-1]))  # without session 6
    with pytest.raises(ValueError, match="subjects of session KKI2009-06 and 0 more are unknown"):
        kirby21(folder, table=table)


def test_a_damaged_session_excludes_its_subject(folder: Path, table: Path) -> None:
    file = folder / "KKI2009-03" / "KKI2009-03-MPRAGE.nii"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=r"has 1 issue:\n  - 0113: .*KKI2009-03-MPRAGE.nii"):
        kirby21(folder, table=table)
    data = kirby21(folder, table=table, skip_invalid=True)
    assert all_of(data) == ["0127", "0127", "0142", "0142"]


def test_another_layout_is_refused_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="layout of Kirby21; expected files such as KKI2009-01-MPRAGE"):
        kirby21(tmp_path)
