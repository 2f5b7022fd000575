from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import xlrd
from helpers.small_subjects import AFFINE, REGION_IDS, files_below, small_subject

from meddiffusers.data.layouts import write_brats, write_ibsr, write_ixi, write_oasis1, write_own
from meddiffusers.data.layouts.folders import tissues
from meddiffusers.data.scan import Scan
from meddiffusers.data.subject import Subject
from meddiffusers.datasets.public.scans import load_scans

WRITERS = [write_brats, write_ibsr, write_ixi, write_oasis1, write_own]
Writer = Callable[..., Path]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_brats(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [
        {"age": 60.5, "survival_days": 289, "resection": "GTR"},
        {"grade": "LGG", "age": 3},
    ]
    folder = write_brats(
        (small_subject(number, **record) for number, record in enumerate(records, 4)), tmp_path / "new"
    )
    subject_ids = ("BraTS20_Training_004", "BraTS20_Training_005")
    names = [
        f"{subject_id}/{subject_id}_{name}.nii.gz"
        for subject_id in subject_ids
        for name in ("flair", "seg", "t1", "t1ce", "t2")
    ]
    assert files_below(folder) == [*names, "name_mapping.csv", "survival_info.csv"]
    grades = [(row["Grade"], row["BraTS_2020_subject_ID"]) for row in table(folder / "name_mapping.csv")]
    assert grades == [("HGG", subject_ids[0]), ("LGG", subject_ids[1])]
    assert table(folder / "survival_info.csv") == [
        {"Brats20ID": subject_ids[0], "Age": "60.5", "Survival_days": "289", "Extent_of_Resection": "GTR"}
    ]
    image = nibabel.load(folder / names[1])
    assert image.get_data_dtype() == np.uint8
    labels, written = small_subject(4).lesions.array[0], np.asanyarray(image.dataobj)
    assert set(np.unique(labels)) == set(range(7))
    np.testing.assert_array_equal(np.unique(written), [0, 1, 2, 4])
    np.testing.assert_array_equal(written, labels * np.isin(labels, (1, 2, 4)))


def test_ixi(tmp_path: Path) -> None:
    subjects = [
        small_subject(2, ("t1", "flair"), age=35.8, sex="F", height=164, weight=58),
        small_subject(12, ("t1", "t2", "pd"), site="HH"),
    ]
    folder = write_ixi(iter(subjects), tmp_path / "new")
    scans = [f"IXI012-HH-0012-{name}.nii.gz" for name in ("PD", "T1", "T2")]
    assert files_below(folder) == ["IXI.xls", "IXI002-Guys-0002-T1.nii.gz", *scans]
    sheet = xlrd.open_workbook(folder / "IXI.xls").sheet_by_name("Table")
    header, *rows = (sheet.row_values(index) for index in range(sheet.nrows))
    known = [dict(zip(header, row, strict=True)) for row in rows]
    columns = ("IXI_ID", "SEX_ID (1=m, 2=f)", "HEIGHT", "WEIGHT", "AGE")
    assert [[row[name] for name in columns] for row in known] == [[2, 2, 164, 58, 35.8], [12, 0, 0, 0, 0]]


def test_ibsr(tmp_path: Path) -> None:
    folder = write_ibsr([small_subject(3)], tmp_path)
    assert files_below(folder) == [f"IBSR_03/IBSR_03_{name}.nii.gz" for name in ("ana", "segTRI_ana", "seg_ana")]


def test_own_scans(tmp_path: Path) -> None:
    subjects = [small_subject(3, ("t1", "t2"), sex="F", age=63.6), replace(small_subject(12, ("flair",)), regions=None)]
    folder = write_own(subjects, tmp_path / "new")
    names = ("labels", "t1", "t2")
    files = ["scans.csv", *(f"subject-003/{name}.nii.gz" for name in names), "subject-012/flair.nii.gz"]
    assert files_below(folder) == files
    first, second, third = load_scans(folder, folder / "scans.csv", test_fraction=0)["train"]
    assert (first["subject"], first["modality"], first["sex"], first["age"]) == ("subject-003", "t1", "F", 64)
    assert second["modality"] == "t2" and first["labels"].shape == (6, 7, 5)
    assert (third["modality"], third["sex"], third["labels"]) == ("flair", None, None)
    np.testing.assert_array_equal(np.asanyarray(second["image"].dataobj), subjects[0].images["t2"].array[0])


def test_oasis1(tmp_path: Path) -> None:
    folder = write_oasis1(
        [small_subject(7, sex="M", age=74, cdr=0.5), replace(small_subject(8), regions=None)], tmp_path
    )
    image = "OAS1_000{0}_MR1/PROCESSED/MPRAGE/T88_111/OAS1_000{0}_MR1_mpr_n4_anon_111_t88_masked_gfc"
    fluid = "OAS1_0007_MR1/FSL_SEG/OAS1_0007_MR1_mpr_n4_anon_111_t88_masked_gfc_fseg"
    stems = (fluid, image.format(7), image.format(8))
    names = [f"{stem}.{ending}" for stem in stems for ending in ("hdr", "img")]
    assert files_below(folder) == [*names, "oasis_cross-sectional.csv"]
    row, _ = table(folder / "oasis_cross-sectional.csv")
    assert list(row) == ["ID", "M/F", "Hand", "Age", "Educ", "SES", "MMSE", "CDR", "eTIV", "nWBV", "ASF", "Delay"]
    assert list(row.values()) == ["OAS1_0007_MR1", "M", "R", "74", "", "", "", "0.5", "", "", "", "N/A"]


@pytest.mark.parametrize("axes", ["LAS", "RAS", "PIR", "SLA"])
def test_oasis1_turns_any_axes_to_left_anterior_superior(tmp_path: Path, axes: str) -> None:
    canonical = nibabel.Nifti1Image(small_subject(1).images["t1"].array[0], AFFINE)
    to_axes = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(AFFINE), nibabel.orientations.axcodes2ornt(axes)
    )
    turned = canonical.as_reoriented(to_axes)
    scan = Scan(np.asanyarray(turned.dataobj), turned.affine, "t1")
    assert scan.orientation == axes
    folder = write_oasis1([Subject(1, {"t1": scan})], tmp_path)
    (path,) = folder.rglob("*_gfc.hdr")
    pair = nibabel.load(path)
    np.testing.assert_array_equal(np.asanyarray(pair.dataobj), np.asanyarray(canonical.dataobj))
    np.testing.assert_allclose(pair.header.get_zooms(), np.abs(np.diag(AFFINE))[:3])
    assert nibabel.aff2axcodes(pair.affine) == ("L", "A", "S")


def test_oasis1_refuses_what_analyze_cannot_hold(tmp_path: Path) -> None:
    turned = AFFINE.copy()
    turned[:2, :2] = [[-0.8, 0.6], [0.6, 0.8]]
    with pytest.raises(ValueError, match=r"Analyze stores no rotation, but the scan's axes are \[\[-0.8"):
        write_oasis1([Subject(1, {"t1": Scan(np.zeros((2, 2, 2), np.int16), turned)})], tmp_path / "a")
    with pytest.raises(ValueError, match="Analyze has no voxels of uint16; expected one of uint8"):
        write_oasis1([Subject(1, {"t1": Scan(np.zeros((2, 2, 2), np.uint16), AFFINE)})], tmp_path / "b")
    assert not [*(tmp_path / "a").iterdir(), *(tmp_path / "b").iterdir()]


def test_regions_are_fluid_grey_or_white() -> None:
    regions = Scan(np.array(REGION_IDS, np.int16).reshape(3, 3, 1), AFFINE, "labels")
    # 0 nothing, 2 and 41 white matter, 3 cortex, 4 ventricle, 10 thalamus, 16 brainstem, 24 fluid, 72 septum
    assert tissues(regions).array.ravel().tolist() == [0, 3, 2, 1, 2, 3, 1, 3, 1]


@pytest.mark.parametrize("write", WRITERS)
def test_subjects_are_written_one_by_one(tmp_path: Path, write: Writer) -> None:
    def subjects() -> Iterator[Subject]:
        yield small_subject(1)
        assert any("1" in name for name in files_below(tmp_path / "new"))
        yield small_subject(2)
        raise RuntimeError("the phantom broke")

    with pytest.raises(RuntimeError, match="the phantom broke"):
        write(subjects(), tmp_path / "new")
    complete = write([small_subject(1), small_subject(2)], tmp_path / "whole")
    scans = [name for name in files_below(complete) if not name.endswith((".csv", ".xls"))]
    assert files_below(tmp_path / "new") == scans


@pytest.mark.parametrize("write", [write_brats, write_ibsr, write_oasis1])
def test_a_subject_that_fails_leaves_nothing(tmp_path: Path, write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    saved, of_second = nibabel.save, list[Path]()

    def fail_midway(image: Any, path: Path) -> None:
        of_second.extend([path] * ("77" in path.name))
        if len(of_second) == 2:
            raise OSError("no space left")
        saved(image, path)

    monkeypatch.setattr(nibabel, "save", fail_midway)
    with pytest.raises(OSError, match="no space left"):
        write([small_subject(1), small_subject(77)], tmp_path / "new")
    assert len([*(tmp_path / "new").iterdir()]) == 1
    assert not [name for name in files_below(tmp_path / "new") if "77" in name]


@pytest.mark.parametrize("write", WRITERS)
def test_a_folder_with_anything_in_it_is_refused(tmp_path: Path, write: Writer) -> None:
    (tmp_path / "old.txt").touch()
    with pytest.raises(FileExistsError, match="is not empty; expected a new folder"):
        write((pytest.fail("work began") for _ in range(1)), tmp_path)


def test_missing_scans_are_named(tmp_path: Path) -> None:
    bare = Subject(3, {"t2": small_subject(3).images["t2"]})
    for write, missing in (
        (write_brats, "t1, t1ce, flair, lesions"),
        (write_ibsr, "t1, regions"),
        (write_ixi, "t1"),
        (write_oasis1, "t1"),
    ):
        with pytest.raises(ValueError, match=f"Subject 3 has no {missing}, which the layout of .* needs; it has t2"):
            write([bare], tmp_path)


@pytest.mark.parametrize("write", [write_brats, write_ibsr, write_oasis1])
def test_several_grids_are_refused(tmp_path: Path, write: Writer) -> None:
    subject = small_subject(1)
    shifted = Scan(subject.images["t1"].array, AFFINE + 0.1 * np.eye(4, k=3), "t1")
    with pytest.raises(ValueError, match=r"Subject 1 cannot be written: .* expected one grid"):
        write([replace(subject, images={**subject.images, "t1": shifted})], tmp_path)
