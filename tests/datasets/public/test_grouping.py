"""Whose scan a file is, by the names of files and folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from meddiffusers.datasets.public.finding import Index
from meddiffusers.datasets.public.grouping import group


def grouped(folder: Path, *names: str) -> Index:
    for name in names:
        path = folder / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    index = Index(folder / "set")
    group(index)
    return index


def subjects(index: Index) -> list[str]:
    return sorted({row.subject for row in index.rows})


@pytest.mark.parametrize(
    "above",
    [
        *("train test", "Train Val", "training validation", "train dev", "imagesTr imagesTs", "train_data test_data"),
        *("fold_1 fold_2", "split0 split1", "holdout train", "healthy tumour", "HGG LGG", "AD CN", "yes no"),
        *("benign malignant", "visit1 visit2", "ses-01 ses-02", "2020-01-01 2021-03-04", "baseline followup"),
        *("site1 site2", "data/train data/test", "train/healthy test/tumour", "t1/pre t1/axial", "raw processed"),
        *(
            "1.5T 3T",
            "class_0 class_1",
            "positive negative",
            "m06 m12",
            "left right",
            "2D 3D",
            "gesund krank",
            "slices raw",
        ),
    ],
)
def test_a_folder_of_a_split_a_class_or_a_visit_is_no_subject(tmp_path: Path, above: str) -> None:
    first, second = above.split()
    inner = grouped(tmp_path / "a", f"{first}/p1/a_t1.nii", f"{second}/p1/b_t1.nii", f"{second}/p2/c_t1.nii")
    assert subjects(inner) == ["p1", "p2"]
    files = grouped(tmp_path / "b", f"{first}/p1_t1.nii", f"{second}/p1_t1.nii", f"{second}/p2_t1.nii")
    assert subjects(files) == ["p1", "p2"]
    assert (len(inner.rows), len(files.rows)) == (3, 3)


@pytest.mark.parametrize(
    "names",
    [
        *(
            "p1_visit1_t1 p1_visit2_t1",
            "p1_ses-1_t1 p1_ses-2_t1",
            "p1_20200101_t1 p1_20210102_t1",
            "p1_t1 p1_t1_copy",
        ),
        *("p1_2020-01-01_t1 p1_2021-01-02_t1", "p1_01.02.2020_t1 p1_03.02.2021_t1", "p1_v1_t1 p1_v2_t1"),
        *(
            "p1_baseline_t1 p1_followup_t1",
            "p1_month06_t1 p1_month12_t1",
            "p1visit1_t1 p1visit2_t1",
            "p1_TP1_t1 p1_TP2_t1",
        ),
        *("p1_left_t1 p1_right_t1", "p1_L_t1 p1_R_t1", "p1_run-1_t1 p1_run-2_t1", "p1_preop_t1 p1_postop_t1"),
        *(
            "p1_slice001_t1 p1_slice002_t1",
            "visit1_p1_t1 visit2_p1_t1",
            "p1_retest1_t1 p1_retest2_t1",
            "p1_t1 p1_t1(1)",
            "p1_t1_1 p1_t1_2",
            "p1_MR1_mpr-1 p1_MR2_mpr-4",
            "p1_d0129_t1 p1_d0757_t1",
            "P1V1_t1 P1V2_t1",
            "p1_aug0_t1 p1_aug1_t1",
            "p1_t1_flipped p1_t1",
            "p1_patch1_t1 p1_patch2_t1",
        ),
        *(
            "p1_fu1_t1 p1_fu2_t1",
            "p1_day_1_t1 p1_day_2_t1",
            "p1_20200101_120000_t1 p1_20200102_130000_t1",
            "p1_scan1 p1_scan2",
        ),
    ],
)
def test_visits_and_sides_are_of_one_subject(tmp_path: Path, names: str) -> None:
    first, second = names.split()
    index = grouped(tmp_path / "a", f"{first}.nii", f"{second}.nii", "p2_t1.nii")
    assert [name.lower() for name in subjects(index)] == ["p1", "p2"]


@pytest.mark.parametrize(
    "name", ["p1_visit1", "p1-20200101", "p1_ses-2", "p1_M06", "p1 baseline", "p1_2020-01-01", "p1_left"]
)
def test_visits_of_folders_are_of_one_subject(tmp_path: Path, name: str) -> None:
    index = grouped(tmp_path, f"{name}/t1.nii", "p1/t2.nii", "p2/t1.nii", "p3/t2.nii")
    assert subjects(index) == ["p1", "p2", "p3"]


def test_what_is_in_a_folder_tells_whether_it_is_a_visit(tmp_path: Path) -> None:
    visits = grouped(tmp_path / "a", "M06/p1_t1.nii", "M12/p1_t1.nii", "M06/p2_t1.nii")
    assert subjects(visits) == ["p1", "p2"]
    inner = grouped(tmp_path / "b", "V1/p1/t1.nii", "V2/p1/t1.nii", "V1/p2/t1.nii")
    assert subjects(inner) == ["p1", "p2"]
    volunteers = grouped(tmp_path / "c", "V01/a_t1.nii", "V01/b_t1.nii", "V02/c_t1.nii")
    assert subjects(volunteers) == ["V01", "V02"]


@pytest.mark.parametrize(
    "names",
    [
        *(
            "image_001 image_002",
            "test_001 train_001",
            "BRATS_0001 BRATS_0002",
            "OAS1_0001 OAS1_0002",
            "siteA_scan12 siteA_scan13",
        ),
        *("study_m01 study_m02", "20200101 20200102", "IXI002-Guys-0828 IXI012-HH-1211", "visit1 visit2"),
        *("control_1 control_2", "tumour_1_t1 tumour_2_t1", "Left Right"),
    ],
)
def test_names_of_different_subjects_stay_apart(tmp_path: Path, names: str) -> None:
    assert len(subjects(grouped(tmp_path, *(f"{name}.nii" for name in names.split())))) == 2


def test_images_and_masks_in_folders_beside_each_other_are_rows(tmp_path: Path) -> None:
    index = grouped(tmp_path, *(f"{kind}Tr/p{number}.nii.gz" for kind in ("images", "labels") for number in (1, 2)))
    assert [(row.subject, row.name, sorted(row.scans)) for row in index.rows] == [
        (f"p{number}", f"tr/p{number}", ["image", "labels"]) for number in (1, 2)
    ]
    assert all(all(row.scans.values()) for row in index.rows)


@pytest.mark.parametrize(
    ("names", "note"),
    [
        ("p1_1_t1 p1_2_t1 p2_1_t1", "p1_1, p1_2 count as 2 subjects"),
        ("ctrl_x/p1/t1 pat_x/p1/t1 pat_x/p2/t1", "p1 is in ctrl_x, pat_x, which count as several subjects"),
        ("train_p1_t1 test_p1_t1 train_p2_t1", "p1, train_p1 count as 2 subjects"),
        ("fold1_p1_t1 fold2_p1_t1 fold2_p2_t1", "fold1_p1, fold2_p1 count as 2 subjects"),
        ("north/p1_t1 north/p2_t1 south/p3_t1", "folder north counts as one subject, with scans of p1, p2"),
        ("train/p1_t1 test/p2_t1", "folders named after splits (test, train) are not kept"),
    ],
)
def test_what_cannot_be_known_is_noted(tmp_path: Path, names: str, note: str) -> None:
    index = grouped(tmp_path, *(f"{name}.nii" for name in names.split()))
    assert any(note in each for each in index.notes), index.notes


def test_a_plain_folder_has_no_notes(tmp_path: Path) -> None:
    assert grouped(tmp_path / "a", "p1_t1.nii", "p2_t1.nii", "p3/t1.nii").notes == []
    assert grouped(tmp_path / "b", *(f"BRATS_00{number}_t1.nii" for number in range(3))).notes == []
    assert (
        grouped(tmp_path / "c", "IXI002-Guys-0828-T1.nii", "IXI012-HH-1211-T1.nii", "IXI013-HH-1212-T1.nii").notes == []
    )
