from __future__ import annotations

import csv
import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers.rows import all_of, known_of, row_of, voxels
from helpers.small_subjects import AFFINE, small_subject, unpack

from meddiffusers.data.layouts import write_brats
from meddiffusers.datasets.public import DatasetError, brats2020

NAME = "BraTS20_Training_{:03d}"
MODALITIES = ("t1", "t1ce", "t2", "flair")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    records = [
        {"grade": "HGG", "age": 60.463, "survival_days": 289, "resection": "GTR"},
        {"grade": "LGG", "age": 52.0, "survival_days": "ALIVE (361 days later)"},
        {"grade": "LGG"},
        {"grade": "HGG"},
    ]
    subjects = (small_subject(number, **record) for number, record in enumerate(records, 1))
    return write_brats(subjects, tmp_path / "MICCAI_BraTS2020_TrainingData")


def path(folder: Path, number: int, modality: str) -> Path:
    return folder / NAME.format(number) / f"{NAME.format(number)}_{modality}.nii.gz"


def test_every_voxel_and_affine_comes_back(folder: Path) -> None:
    unpack(path(folder, 2, "t1"))
    data = brats2020(folder.parent)  # the folder around it serves too
    for number in (1, 2):
        row, subject = row_of(data, NAME.format(number)), small_subject(number)
        for name in MODALITIES:
            np.testing.assert_array_equal(voxels(row[name]), subject.images[name].array[0])
            np.testing.assert_allclose(row[name].affine, AFFINE, atol=1e-6)
        labels = subject.lesions.array[0]
        np.testing.assert_array_equal(voxels(row["seg"]), np.where(np.isin(labels, (1, 2, 4)), labels, 0))


def test_tables_give_the_record(folder: Path) -> None:
    data = brats2020(folder)
    unknown = {"age": None, "survival_days": None, "alive": None, "resection": None}
    known = {"age": 60.463, "survival_days": 289, "alive": False, "resection": "GTR"}
    assert known_of(data, NAME.format(1)) == {"subject": NAME.format(1), "grade": "HGG", **known}
    known = {"age": 52.0, "survival_days": 361, "alive": True, "resection": None}
    assert known_of(data, NAME.format(2)) == {"subject": NAME.format(2), "grade": "LGG", **known}
    assert known_of(data, NAME.format(3)) == {"subject": NAME.format(3), "grade": "LGG", **unknown}


def test_tables_are_optional_and_their_gaps_are_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "name_mapping.csv").unlink()
    with (folder / "survival_info.csv").open("a", newline="") as file:
        csv.writer(file).writerow(["BraTS20_Training_999", 50, 100, "STR"])
    with caplog.at_level(logging.WARNING):
        data = brats2020(folder)
    assert known_of(data, NAME.format(1))["grade"] is None
    assert "survival_info.csv has rows without scans: BraTS20_Training_999" in caplog.text
    assert "survival_info.csv has no row for BraTS20_Training_003, BraTS20_Training_004" in caplog.text


def test_the_mask_of_subject_355_has_another_name(folder: Path) -> None:
    unpack(path(folder, 3, "seg")).rename(folder / NAME.format(3) / "W39_1998.09.19_Segm.nii")
    subject = folder / NAME.format(3)
    for file in sorted(subject.iterdir()):
        file.rename(subject / file.name.replace("003", "355"))
    subject.rename(folder / NAME.format(355))
    labels = small_subject(3).lesions.array[0]
    seg = row_of(brats2020(folder), NAME.format(355))["seg"]
    np.testing.assert_array_equal(voxels(seg), np.where(np.isin(labels, (1, 2, 4)), labels, 0))


def test_validation_subjects_have_no_mask(folder: Path) -> None:
    for number in (1, 2, 3, 4):
        path(folder, number, "seg").unlink()
        for file in sorted((folder / NAME.format(number)).iterdir()):
            file.rename(file.with_name(file.name.replace("Training", "Validation")))
        (folder / NAME.format(number)).rename(folder / f"BraTS20_Validation_{number:03d}")
    (folder / "name_mapping.csv").rename(folder / "name_mapping_validation_data.csv")
    data = brats2020(folder, test_fraction=0)
    assert list(data) == ["train"]
    assert "seg" not in data["train"].features
    write_brats([small_subject(7)], folder.parent / "training")
    both = brats2020(folder.parent, test_fraction=0)
    assert row_of(both, "BraTS20_Validation_002")["seg"] is None
    assert row_of(both, "BraTS20_Training_007")["seg"] is not None


def spoil(folder: Path) -> dict[str, str]:
    """One issue of each kind, and the beginning of what is said about it by subject."""
    path(folder, 1, "t2").unlink()
    whole = path(folder, 2, "t1").read_bytes()
    path(folder, 2, "t1").write_bytes(whole[: len(whole) // 2])
    path(folder, 2, "flair").write_bytes(b"")
    (folder / "copy").mkdir()
    (folder / "copy" / NAME.format(3)).mkdir()
    write_brats((small_subject(number) for number in (5, 6, 7)), folder / "more")
    t1ce = path(folder / "more", 5, "t1ce")
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 7, 4), np.int16), AFFINE), t1ce)
    moved = AFFINE + 0.01 * np.eye(4, k=3)
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 7, 5), np.int16), moved), path(folder / "more", 6, "t1ce"))
    plain = unpack(path(folder / "more", 7, "seg"))
    plain.write_bytes(plain.read_bytes()[:-1])
    return {
        "1": "no t2; expected one file",
        "3": "2 of the subject",
        "2": str(path(folder, 2, "t1")),
        "2b": str(path(folder, 2, "flair")),
        "7": str(plain),
        "5": r"mixed grids: t1 (6, 7, 5), t1ce (6, 7, 4), t2 (6, 7, 5), flair (6, 7, 5), seg (6, 7, 5) voxels",
        "6": "mixed grids: affines {'t1': ",
    }


def test_one_report_lists_all_issues(folder: Path) -> None:
    expected = spoil(folder)
    with pytest.raises(DatasetError, match=r"has 7 issues:\n") as caught:
        brats2020(folder)
    issues = caught.value.issues
    assert [issue.subject for issue in issues] == [NAME.format(int(number[0])) for number in expected]
    for issue, start in zip(issues, expected.values(), strict=True):
        assert issue.text.startswith(start)
        assert f"  - {issue.subject}: {start}" in str(caught.value)


def test_skip_invalid_loads_the_other_subjects(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    spoil(folder)
    write_brats((small_subject(number) for number in (8, 9)), folder / "others")
    with caplog.at_level(logging.WARNING):
        data = brats2020(folder, skip_invalid=True)
    assert all_of(data) == [NAME.format(number) for number in (4, 8, 9)]
    assert "6 subjects are left out" in caplog.text
    assert "BraTS20_Training_001: no t2" in caplog.text


def test_foreign_label_values_show_when_every_voxel_is_read(folder: Path) -> None:
    labels = np.zeros((6, 7, 5), np.uint8)
    labels[0, 0] = 3
    nibabel.save(nibabel.Nifti1Image(labels, AFFINE), path(folder, 4, "seg"))
    brats2020(folder)
    with pytest.raises(DatasetError, match=r"label values \[3\]; expected only \[0, 1, 2, 4\]"):
        brats2020(folder, verify=True)


def test_hidden_files_and_folders_are_passed_over(folder: Path) -> None:
    (folder / NAME.format(1) / f"._{NAME.format(1)}_t1.nii.gz").touch()  # as macOS leaves them in archives
    (folder / ".tmp" / NAME.format(1)).mkdir(parents=True)  # as a writer leaves it that was killed
    assert all_of(brats2020(folder)) == [NAME.format(number) for number in (1, 2, 3, 4)]


def test_another_layout_is_refused_with_an_example(tmp_path: Path) -> None:
    (tmp_path / "IXI002-Guys-0828-T1.nii.gz").touch()
    with pytest.raises(ValueError, match="layout of BraTS 2020; expected files such as BraTS20_Training_001/"):
        brats2020(tmp_path)
    with pytest.raises(ValueError, match="is no folder in the layout"):
        brats2020(tmp_path / "absent")


def test_a_table_without_its_columns_is_refused(folder: Path) -> None:
    (folder / "name_mapping.csv").write_text("Grade,ID\nHGG,1\n")
    with pytest.raises(ValueError, match="no column BraTS_2020_subject_ID; it has Grade, ID"):
        brats2020(folder)
