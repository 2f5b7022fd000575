from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers.rows import all_of, values_of, voxels

from meddiffusers.datasets.public import DatasetError, acdc

AFFINE = np.diag([-1.5, -1.5, 10, 1])
INFO = "ED: 1\nES: {es}\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n"


def write_patient(folder: Path, number: int, labelled: bool = True) -> None:
    """One patient in the layout of ACDC, with random voxels and end systole at frame 8 plus the number."""
    name, es = f"patient{number:03d}", 8 + number
    (folder / name).mkdir(parents=True)
    (folder / name / "Info.cfg").write_text(INFO.format(es=es))
    for frame in (1, es):
        array = image(number, frame)
        stem = folder / name / f"{name}_frame{frame:02d}"
        nibabel.save(nibabel.Nifti1Image(array, AFFINE), f"{stem}.nii.gz")
        if labelled:
            nibabel.save(nibabel.Nifti1Image((array % 4).astype(np.uint8), AFFINE), f"{stem}_gt.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 5, 4, 2), np.int16), AFFINE), folder / name / f"{name}_4d.nii.gz")


def image(number: int, frame: int) -> np.ndarray:
    return np.random.default_rng([number, frame]).integers(0, 300, (6, 5, 4)).astype(np.int16)


def write_part(folder: Path, numbers: Iterable[int], labelled: bool = True) -> Path:
    for number in numbers:
        write_patient(folder, number, labelled)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_part(tmp_path / "database" / "training", (1, 2, 3))
    return write_part(tmp_path / "database" / "testing", (101, 102)).parent


def test_every_patient_has_two_phases_in_the_official_split(folder: Path) -> None:
    data = acdc(folder, verify=True)
    assert {split: sorted({*names}) for split, names in values_of(data).items()} == {
        "train": ["patient001", "patient002", "patient003"],
        "test": ["patient101", "patient102"],
    }
    rows = [row for row in data["train"] if row["subject"] == "patient002"]
    assert [(row["phase"], row["frame"]) for row in rows] == [("ED", 0), ("ES", 9)]
    for row in rows:
        expected = image(2, row["frame"] + 1)
        np.testing.assert_array_equal(voxels(row["image"]), expected)
        np.testing.assert_array_equal(voxels(row["labels"]), expected % 4)
        assert nibabel.affines.voxel_sizes(row["labels"].affine).tolist() == [1.5, 1.5, 10]
        assert (row["frames"], row["group"], row["height"], row["weight"]) == (30, "DCM", 184, 95)


def test_patients_are_split_whole_on_request_or_with_one_part(folder: Path) -> None:
    for data in (acdc(folder, official_split=False, test_fraction=0.4), acdc(folder / "training", test_fraction=0.4)):
        subjects = {name: {*values} for name, values in values_of(data).items()}
        assert sorted(subjects) == ["test", "train"] and not subjects["test"] & subjects["train"]
    assert len(acdc(folder / "training", test_fraction=0)["train"]) == 6


def test_testing_may_lack_labels_but_training_may_not(folder: Path) -> None:
    shutil.rmtree(folder / "testing")
    write_part(folder / "testing", (103,), labelled=False)
    assert [row["labels"] for row in acdc(folder)["test"]] == [None, None]
    (folder / "training/patient003/patient003_frame11_gt.nii.gz").unlink()
    with pytest.raises(DatasetError, match="1 issue:\n  - patient003: no patient003_frame11_gt; expected one file"):
        acdc(folder)


def test_unknown_values_are_none(folder: Path) -> None:
    (folder / "training/patient001/Info.cfg").write_text("ED: 9\nES: 1\nHeight: tall\n")
    known = [row for row in acdc(folder)["train"] if row["subject"] == "patient001"]
    assert [(row["phase"], row["frame"]) for row in known] == [("ED", 8), ("ES", 0)]
    assert all(row[name] is None for row in known for name in ("frames", "group", "height", "weight"))


def test_one_report_lists_all_issues(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    training = folder / "training"
    (training / "patient001/Info.cfg").unlink()
    (training / "patient002/Info.cfg").write_text("ED: 1\nES: last\n")
    path = training / "patient003/patient003_frame01_gt.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 5, 3), np.uint8), AFFINE), path)
    (folder / "testing/patient101/Info.cfg").write_text("ED: 1\nES: 1\n")
    with pytest.raises(DatasetError) as caught:
        acdc(folder)
    assert sorted(str(issue).partition(";")[0] for issue in caught.value.issues) == [
        "patient001: no Info.cfg",
        "patient002: Info.cfg: no whole number ES",
        "patient003: mixed grids: image (6, 5, 4), labels (6, 5, 3) voxels",
        "patient101: Info.cfg: ED and ES are both frame 1",
    ]
    with caplog.at_level(logging.WARNING):
        data = acdc(folder, skip_invalid=True)
    assert all_of(data) == ["patient102"] * 2 and "4 subjects are left out" in caplog.text


def test_other_label_values_are_found_by_verify(folder: Path) -> None:
    path = folder / "training/patient001/patient001_frame01_gt.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.full((6, 5, 4), 5, np.uint8), AFFINE), path)
    assert len(acdc(folder)["train"]) == 6
    with pytest.raises(DatasetError, match=r"label values \[5\]; expected only \[0, 1, 2, 3\]"):
        acdc(folder, verify=True)


def test_another_layout_is_refused_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="layout of ACDC; expected files such as training/patient001/patient001_fra"):
        acdc(tmp_path)
