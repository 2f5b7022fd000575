from __future__ import annotations

import csv
import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers.rows import all_of, known_of, row_of, voxels
from helpers.small_subjects import AFFINE, small_subject, unpack

from meddiffusers.data.io import read, write
from meddiffusers.data.layouts import write_brats
from meddiffusers.data.preprocessing.subject import read_subject
from meddiffusers.data.scan import Scan
from meddiffusers.datasets.public import DatasetError, brats
from meddiffusers.datasets.public.brats.names import same_ids

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
    data = brats(folder.parent)  # the folder around it serves too
    for number in (1, 2):
        row, subject = row_of(data, NAME.format(number)), small_subject(number)
        for name in MODALITIES:
            np.testing.assert_array_equal(voxels(row[name]), subject.images[name].array[0])
            np.testing.assert_allclose(row[name].affine, AFFINE, atol=1e-6)
        labels = subject.lesions.array[0]
        np.testing.assert_array_equal(voxels(row["seg"]), np.where(np.isin(labels, (1, 2, 4)), labels, 0))


def test_tables_give_the_record(folder: Path) -> None:
    data = brats(folder)
    names = [{"subject": NAME.format(number), "case": NAME.format(number)} for number in (1, 2, 3)]
    unknown = {"enhancing_label": 4, "age": None, "survival_days": None, "alive": None, "resection": None}
    known = {"enhancing_label": 4, "age": 60.463, "survival_days": 289, "alive": False, "resection": "GTR"}
    assert known_of(data, NAME.format(1)) == {**names[0], "grade": "HGG", **known}
    known = {"enhancing_label": 4, "age": 52.0, "survival_days": 361, "alive": True, "resection": None}
    assert known_of(data, NAME.format(2)) == {**names[1], "grade": "LGG", **known}
    assert known_of(data, NAME.format(3)) == {**names[2], "grade": "LGG", **unknown}


def test_tables_are_optional_and_their_gaps_are_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "name_mapping.csv").unlink()
    with (folder / "survival_info.csv").open("a", newline="") as file:
        csv.writer(file).writerow(["BraTS20_Training_999", 50, 100, "STR"])
    with caplog.at_level(logging.WARNING):
        data = brats(folder)
    assert known_of(data, NAME.format(1))["grade"] is None
    assert "survival_info.csv has rows without scans: BraTS20_Training_999" in caplog.text
    assert "survival_info.csv has no row for BraTS20_Training_003, BraTS20_Training_004" in caplog.text


@pytest.mark.slow
def test_the_mask_of_subject_355_has_another_name(folder: Path) -> None:
    unpack(path(folder, 3, "seg")).rename(folder / NAME.format(3) / "W39_1998.09.19_Segm.nii")
    subject = folder / NAME.format(3)
    for file in sorted(subject.iterdir()):
        file.rename(subject / file.name.replace("003", "355"))
    subject.rename(folder / NAME.format(355))
    labels = small_subject(3).lesions.array[0]
    seg = row_of(brats(folder), NAME.format(355))["seg"]
    np.testing.assert_array_equal(voxels(seg), np.where(np.isin(labels, (1, 2, 4)), labels, 0))


@pytest.mark.slow
def test_validation_subjects_have_no_mask(folder: Path) -> None:
    for number in (1, 2, 3, 4):
        path(folder, number, "seg").unlink()
        for file in sorted((folder / NAME.format(number)).iterdir()):
            file.rename(file.with_name(file.name.replace("Training", "Validation")))
        (folder / NAME.format(number)).rename(folder / f"BraTS20_Validation_{number:03d}")
    (folder / "name_mapping.csv").rename(folder / "name_mapping_validation_data.csv")
    data = brats(folder, test_fraction=0)
    assert list(data) == ["train"]
    assert "seg" not in data["train"].features
    write_brats([small_subject(7)], folder.parent / "training")
    both = brats(folder.parent, test_fraction=0)
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
        "1": f"no {NAME.format(1)} t2; expected one file",
        "3": f"2 of the case {NAME.format(3)}",
        "2": str(path(folder, 2, "t1")),
        "2b": str(path(folder, 2, "flair")),
        "7": str(plain),
        "5": r"mixed grids: t1 (6, 7, 5), t1ce (6, 7, 4), t2 (6, 7, 5), flair (6, 7, 5), seg (6, 7, 5) voxels",
        "6": "mixed grids: affines {'t1': ",
    }


def test_one_report_lists_all_issues(folder: Path) -> None:
    expected = spoil(folder)
    with pytest.raises(DatasetError, match=r"has 7 issues:\n") as caught:
        brats(folder)
    issues = caught.value.issues
    assert [issue.subject for issue in issues] == [NAME.format(int(number[0])) for number in expected]
    for issue, start in zip(issues, expected.values(), strict=True):
        assert issue.text.startswith(start)
        assert f"  - {issue.subject}: {start}" in str(caught.value)


@pytest.mark.slow
def test_skip_invalid_loads_the_other_subjects(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    spoil(folder)
    write_brats((small_subject(number) for number in (8, 9)), folder / "others")
    with caplog.at_level(logging.WARNING):
        data = brats(folder, skip_invalid=True)
    assert all_of(data) == [NAME.format(number) for number in (4, 8, 9)]
    assert "6 subjects are left out" in caplog.text
    assert "BraTS20_Training_001: no BraTS20_Training_001 t2" in caplog.text


def renamed(folder: Path, *cases: str, enhancing: int) -> Path:
    """Small subjects 1, 2, … under the names of a year, with its id of enhancing tumour."""
    since_2023 = cases[0].startswith("BraTS-")
    for number, case in enumerate(cases, 1):
        subject = small_subject(number)
        lesions = np.where(subject.lesions.array[0] < 3, subject.lesions.array[0], enhancing).astype(np.uint8)
        for name, scan in {**subject.images, "seg": subject.lesions.like(lesions)}.items():
            ending = f"-{NEW[name]}" if since_2023 else f"_{name}"
            write(scan, folder / case / f"{case}{ending}.nii.gz")
    return folder


NEW = {"t1": "t1n", "t1ce": "t1c", "t2": "t2W", "flair": "t2f", "seg": "seg"}  # a copy of 2023's with a capital


@pytest.mark.parametrize(
    ("cases", "subjects", "enhancing"),
    [
        (("Brats17_TCIA_105_1", "Brats17_CBICA_AAB_1"), ("Brats17_TCIA_105", "Brats17_CBICA_AAB"), 4),
        (("Brats18_2013_10_1", "Brats18_TCIA01_101_1"), ("Brats18_2013_10", "Brats18_TCIA01_101"), 4),
        (("BraTS19_2013_10_1", "BraTS19_TMC_1_1"), ("BraTS19_2013_10", "BraTS19_TMC_1"), 4),
        (("BraTS2021_00000", "BraTS2021_00002"), ("BraTS2021_00000", "BraTS2021_00002"), 4),
        (("BraTS-GLI-00000-000", "BraTS-GLI-00002-000"), ("BraTS-GLI-00000", "BraTS-GLI-00002"), 3),
        (("BraTS-GLI-00005-100", "BraTS-GLI-00005-101"), ("BraTS-GLI-00005", "BraTS-GLI-00005"), 3),
        (("BraTS-MET-00002-000", "BraTS-MEN-00004-000"), ("BraTS-MET-00002", "BraTS-MEN-00004"), 3),
        (("BraTS-PED-00002-000", "BraTS-SSA-00002-000"), ("BraTS-PED-00002", "BraTS-SSA-00002"), 3),
    ],
)
def test_every_year_has_its_names_and_its_ids(
    tmp_path: Path, cases: tuple[str, ...], subjects: tuple[str, ...], enhancing: int
) -> None:
    data = brats(renamed(tmp_path, *cases, enhancing=enhancing), test_fraction=0)["train"]
    rows = {row["case"]: row for row in data}
    for number, (case, subject) in enumerate(zip(cases, subjects, strict=True), 1):
        row = rows[case]
        assert (row["subject"], row["enhancing_label"]) == (subject, enhancing)
        for name in MODALITIES:
            np.testing.assert_array_equal(voxels(row[name]), small_subject(number).images[name].array[0])
        mask = same_ids(read(row["seg"], modality="labels"), case).array[0]
        lesions = small_subject(number).lesions.array[0]
        np.testing.assert_array_equal(mask, np.where(lesions < 3, lesions, 4))


@pytest.mark.parametrize(
    ("case", "found", "expected"),
    [
        ("BraTS2021_00000", 3, [0, 1, 2, 4]),
        ("BraTS20_Training_001", 3, [0, 1, 2, 4]),
        ("BraTS-GLI-00000-000", 4, [0, 1, 2, 3]),
        ("BraTS-PED-00002-000", 4, [0, 1, 2, 3]),
        ("BraTS-GLI-00005-100", 5, [0, 1, 2, 3, 4]),
    ],
)
def test_an_id_that_the_year_does_not_have_is_refused(
    tmp_path: Path, case: str, found: int, expected: list[int]
) -> None:
    folder = renamed(tmp_path, case, enhancing=found)
    with pytest.raises(
        DatasetError, match=rf"{case}[-_]seg\.nii\.gz: label values \[{found}\]; expected only "
    ) as error:
        brats(folder, test_fraction=0)
    assert str(expected) in str(error.value)
    mask = read(next((folder / case).glob("*seg*")))
    with pytest.raises(ValueError, match=rf"{case}[-_]seg\.nii\.gz: label values \[{found}\]; .* {max(expected)} "):
        same_ids(mask, case)


def test_a_resection_cavity_is_no_tumour() -> None:
    mask = Scan(np.arange(5, dtype=np.uint8).reshape(5, 1, 1), AFFINE, "labels")
    assert same_ids(mask, "BraTS-GLI-00005-100").array.ravel().tolist() == [0, 1, 2, 4, 0]


def test_masks_with_a_slope_are_rounded_and_interpolated_ones_refused() -> None:
    mask = Scan(np.array([0, 1.0000001, 2.9999998], np.float32).reshape(3, 1, 1), AFFINE, "labels")
    assert same_ids(mask, "BraTS-GLI-00000-000").array.ravel().tolist() == [0, 1, 4]
    with pytest.raises(ValueError, match=r"BraTS2021_00000: got 1 voxels that are not labels, such as 2\.5"):
        same_ids(mask.like(np.array([0, 2.5, 1], np.float32).reshape(3, 1, 1)), "BraTS2021_00000")


def test_folders_give_the_grade_until_2019(tmp_path: Path) -> None:
    renamed(tmp_path / "HGG", "Brats18_TCIA01_101_1", enhancing=4)
    renamed(tmp_path / "LGG", "Brats18_TCIA09_101_1", enhancing=4)
    rows = brats(tmp_path, test_fraction=0)["train"]
    assert dict(zip(rows["case"], rows["grade"], strict=True)) == {
        "Brats18_TCIA01_101_1": "HGG", "Brats18_TCIA09_101_1": "LGG",
    }  # fmt: skip


@pytest.mark.slow
def test_visits_of_a_subject_stay_in_one_split(tmp_path: Path) -> None:
    cases = [f"BraTS-GLI-{subject:05d}-{visit}" for subject in range(4) for visit in (100, 101, 102)]
    data = brats(renamed(tmp_path, *cases, enhancing=3), test_fraction=0.25)
    subjects = {name: {*split["subject"]} for name, split in data.items()}
    assert (len(subjects["train"]), len(subjects["test"])) == (3, 1)
    assert not subjects["train"] & subjects["test"]


def test_what_names_cannot_tell_is_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    renamed(tmp_path, "BraTS-PED-00002-000", enhancing=3)
    renamed(tmp_path, "BraTS2021_00000", enhancing=4)
    brats(tmp_path, test_fraction=0)
    assert "cases of several years (BraTS, BraTS2021): a patient may be in them under several names" in caplog.text
    assert "BraTS-PED: ids are read as those of 2023" in caplog.text


def test_pediatric_cases_of_2024_are_refused_where_the_folder_or_one_of_them_tells(tmp_path: Path) -> None:
    named = renamed(tmp_path / "BraTS-PEDs2024_Training", "BraTS-PED-00002-000", "BraTS-GLI-00002-000", enhancing=3)
    with pytest.raises(DatasetError, match=r"has 1 issue[^-]*- BraTS-PED-00002: BraTS-PED-00002-000: the mask is of"):
        brats(named, test_fraction=0)
    folder = renamed(tmp_path / "2024" / "BraTS2023-PED", "BraTS-PED-00002-000", "BraTS-GLI-00002-000", enhancing=3)
    assert len(brats(folder, test_fraction=0)["train"]) == 2
    renamed(folder, "BraTS-PED-00005-000", enhancing=4)  # so the ids of 00002, 1 to 3, are not those of 2023
    assert brats(folder, test_fraction=0, skip_invalid=True)["train"]["case"] == ["BraTS-GLI-00002-000"]


REAL = Path(__file__).parents[4] / "shared" / "real" / "brats"


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/real/brats")
@pytest.mark.slow
def test_real_cases_of_two_years_load() -> None:
    rows = {row["case"]: row for row in brats(REAL, test_fraction=0)["train"]}
    assert {case: row["enhancing_label"] for case, row in rows.items()} == {
        "BraTS-GLI-00000-000": 3, "BraTS2021_00006": 4, "BraTS2021_01476": 4,
    }  # fmt: skip
    for case, row in rows.items():
        mask = same_ids(read(row["seg"], modality="labels"), case)
        assert {*np.unique(mask.array).tolist()} == {0, 1, 2, 4}
        assert row["t1ce"].shape == (240, 240, 155)
        assert read_subject(REAL / case, MODALITIES).modality == MODALITIES


def test_hidden_files_and_folders_are_passed_over(folder: Path) -> None:
    (folder / NAME.format(1) / f"._{NAME.format(1)}_t1.nii.gz").touch()  # as macOS leaves them in archives
    (folder / ".tmp" / NAME.format(1)).mkdir(parents=True)  # as a writer leaves it that was killed
    assert all_of(brats(folder)) == [NAME.format(number) for number in (1, 2, 3, 4)]


def test_another_layout_is_refused_with_an_example(tmp_path: Path) -> None:
    (tmp_path / "IXI002-Guys-0828-T1.nii.gz").touch()
    with pytest.raises(ValueError, match="layout of BraTS; expected files such as BraTS20_Training_001/"):
        brats(tmp_path)
    with pytest.raises(ValueError, match="is no folder in the layout"):
        brats(tmp_path / "absent")


def test_a_table_without_its_columns_is_refused(folder: Path) -> None:
    (folder / "name_mapping.csv").write_text("Grade,ID\nHGG,1\n")
    with pytest.raises(ValueError, match="no column BraTS_2020_subject_ID; it has Grade, ID"):
        brats(folder)
