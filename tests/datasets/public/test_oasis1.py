from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers.rows import known_of, row_of, values_of, voxels
from helpers.small_subjects import AFFINE, small_subject

from meddiffusers.data.layouts import write_oasis1
from meddiffusers.data.layouts.folders import tissues
from meddiffusers.datasets.public import DatasetError, oasis1

RECORD = {"sex": "F", "age": 74, "education": 2, "ses": 3, "mmse": 29, "cdr": 0.5, "etiv": 1344, "nwbv": 0.743}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    subjects = (small_subject(number, ("t1",), asf=1.306, **RECORD) for number in (1, 2, 3))
    return write_oasis1(subjects, tmp_path / "oasis")


def second_session(folder: Path, subject: str) -> None:
    shutil.copytree(folder / f"{subject}_MR1", folder / "disc2" / f"{subject}_MR2")
    for file in sorted((folder / "disc2").rglob("*_MR1_*")):
        file.rename(file.with_name(file.name.replace("MR1", "MR2").replace("mpr_n4", "mpr_n3")))


def test_scans_and_table_come_back(folder: Path) -> None:
    data = oasis1(folder)
    row, subject = row_of(data, "OAS1_0002"), small_subject(2, ("t1",))
    # The subject points to left, anterior, superior already; its place is lost, as Analyze centres the volume.
    np.testing.assert_array_equal(voxels(row["t1"]), subject.images["t1"].array[0])
    np.testing.assert_array_equal(voxels(row["seg"]), tissues(subject.regions).array[0])
    spacing = np.abs(np.diag(AFFINE))[:3]
    expected = nibabel.affines.from_matvec(np.diag(spacing * (-1, 1, 1)), -spacing * (-1, 1, 1) * (2.5, 3, 2))
    for name in ("t1", "seg"):
        np.testing.assert_allclose(row[name].affine, expected, atol=1e-6)
    assert known_of(data, "OAS1_0002") == {
        "subject": "OAS1_0002", "session": "MR1", "hand": "R", "asf": 1.306, "delay": None, **RECORD,
    }  # fmt: skip


def test_sessions_of_a_subject_stay_together(folder: Path) -> None:
    for subject in ("OAS1_0001", "OAS1_0002", "OAS1_0003"):
        second_session(folder, subject)
    data = oasis1(folder)
    subjects, sessions = values_of(data), values_of(data, "session")
    assert sessions == {"train": ["MR1", "MR2"] * 2, "test": ["MR1", "MR2"]}
    assert not set(subjects["train"]) & set(subjects["test"])
    first, second = data["test"]
    assert (first["age"], second["age"]) == (74, None)  # the table tells of the first sessions alone
    np.testing.assert_array_equal(voxels(second["t1"]), voxels(first["t1"]))


def test_without_tissues_there_is_no_column(folder: Path) -> None:
    for tissue_folder in folder.glob("*/FSL_SEG"):
        shutil.rmtree(tissue_folder)
    assert "seg" not in oasis1(folder)["train"].features


def test_issues_are_reported_together(folder: Path) -> None:
    second_session(folder, "OAS1_0002")
    (image,) = folder.glob("OAS1_0001_MR1/PROCESSED/MPRAGE/T88_111/*.img")
    image.write_bytes(image.read_bytes()[:-1])
    (header,) = folder.glob("disc2/OAS1_0002_MR2/PROCESSED/MPRAGE/T88_111/*.hdr")
    header.unlink()
    with pytest.raises(DatasetError, match="has 2 issues") as caught:
        oasis1(folder)
    assert [issue.subject for issue in caught.value.issues] == ["OAS1_0002", "OAS1_0001"]
    assert "no OAS1_0002_MR2 T88_111/…_t88_masked_gfc" in caught.value.issues[0].text
    assert values_of(oasis1(folder, skip_invalid=True, test_fraction=0)) == {"train": ["OAS1_0003"]}


def test_foreign_tissues_show_when_every_voxel_is_read(folder: Path) -> None:
    (tissue_file,) = folder.glob("OAS1_0003_MR1/FSL_SEG/*.img")
    tissue_file.write_bytes(b"\x04" + tissue_file.read_bytes()[1:])
    oasis1(folder)
    with pytest.raises(DatasetError, match=r"OAS1_0003: .*label values \[4\]; expected only \[0, 1, 2, 3\]"):
        oasis1(folder, verify=True)


def test_another_layout_is_refused_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="layout of OASIS-1; expected files such as OAS1_0001_MR1/PROCESSED/MPRAGE"):
        oasis1(tmp_path)
