from __future__ import annotations

import gzip
import logging
from pathlib import Path

import datasets
import nibabel
import numpy as np
import pytest
from helpers.rows import all_of, known_of, row_of, values_of, voxels
from helpers.small_subjects import AFFINE, SHAPE

from meddiffusers.data.io import write
from meddiffusers.data.scan import Scan
from meddiffusers.datasets.public import DatasetError, load_scans
from meddiffusers.datasets.public.grouping import _without_modality


def put(path: Path, value: int) -> Path:
    """A scan whose voxels are 1000 · value + their index."""
    write(scan(value), path)
    return path


def scan(value: int) -> Scan:
    return Scan((1000 * value + np.arange(np.prod(SHAPE)).reshape(SHAPE)).astype(np.int16), AFFINE)


def rows(folder: Path) -> dict[str, list[tuple[str, int]]]:
    """The columns and values of the scans of each subject."""
    found: dict[str, list[tuple[str, int]]] = {}
    for row in load_scans(folder, test_fraction=0)["train"]:
        scans = [(name, value) for name, value in row.items() if name != "subject" and value is not None]
        found.setdefault(row["subject"], []).extend(
            (name, int(voxels(image)[0, 0, 0]) // 1000) for name, image in scans
        )
    return found


def test_file_names_give_subject_and_modality(tmp_path: Path) -> None:
    put(tmp_path / "p1_t1.nii.gz", 1)
    put(tmp_path / "p1_t1_ce.nii.gz", 2)
    put(tmp_path / "p1_seg.nii.gz", 3)
    put(tmp_path / "p2-FLAIR.nii", 4)
    put(tmp_path / "p3.nii", 5)
    (tmp_path / "._p3.nii").touch()
    assert rows(tmp_path) == {"p1": [("t1ce", 2), ("t1", 1), ("labels", 3)], "p2": [("flair", 4)], "p3": [("image", 5)]}


def test_folders_give_the_subject(tmp_path: Path) -> None:
    put(tmp_path / "data" / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_T1w.nii.gz", 1)
    put(tmp_path / "data" / "sub-01" / "ses-2" / "anat" / "sub-01_ses-2_T1w.nii.gz", 2)
    put(tmp_path / "data" / "sub-02" / "t1.nii.gz", 3)
    put(tmp_path / "data" / "sub-02" / "t2.nii.gz", 4)
    assert rows(tmp_path) == {"sub-01": [("t1", 1), ("t1", 2)], "sub-02": [("t1", 3), ("t2", 4)]}


def test_folders_of_one_modality_are_no_subjects(tmp_path: Path) -> None:
    for number in (1, 2):
        put(tmp_path / "images" / f"p{number}.nii.gz", number)
        put(tmp_path / "labels" / f"p{number}.nii.gz", number + 10)
    assert {name: sorted(scans) for name, scans in rows(tmp_path).items()} == {
        "p1": [("image", 1), ("labels", 11)],
        "p2": [("image", 2), ("labels", 12)],
    }


@pytest.mark.parametrize(
    ("name", "rest"),
    [("p7_t1_ce", "p7"), ("T1-p7", "p7"), ("p7_t1w_brain", "p7_brain"), ("flair", ""), ("scan 4", "scan 4")],
)
def test_the_modality_is_taken_out_of_a_name(name: str, rest: str) -> None:
    assert _without_modality(name) == rest


def test_registered_and_derived_files_are_of_one_subject(tmp_path: Path) -> None:
    for name in ("p1_T1", "p1_T2_to_T1", "p1_brain_mask", "sub-02_ce-gd_T1w", "sub-02_FLAIR", "sub-02_desc-brain_mask"):
        put(tmp_path / f"{name}.nii", 1)
    found = {name: sorted(column for column, _ in scans) for name, scans in rows(tmp_path).items()}
    assert found == {"p1": ["labels", "t1", "t2"], "sub-02": ["flair", "labels", "t1ce"]}


def test_a_name_that_says_several_modalities_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "p1_T1.nii", 1)
    put(tmp_path / "p2_PD_T2.nii", 2)
    with pytest.raises(
        DatasetError, match=r"p2_PD_T2\.nii: the name says pd, t2: pd or t2; expected one modality: rena"
    ):
        load_scans(tmp_path, test_fraction=0)


def test_sessions_of_a_patient_stay_together(tmp_path: Path) -> None:
    for patient in range(4):
        for visit in range(3):
            put(tmp_path / f"p{patient}" / f"visit{visit}_t1.nii", patient)
    subjects = values_of(load_scans(tmp_path, test_fraction=0.25))
    assert (len(subjects["train"]), len(set(subjects["train"]))) == (9, 3)
    assert (len(subjects["test"]), len(set(subjects["test"]))) == (3, 1)


def test_analyze_and_nifti_2_become_nifti(tmp_path: Path) -> None:
    values = scan(7).array[0]
    nibabel.save(nibabel.AnalyzeImage(values, np.diag([-1.0, 1, 1, 1])), tmp_path / "a_t1.hdr")
    nibabel.save(nibabel.Nifti2Image(values, AFFINE), tmp_path / "b_t1.nii")
    data = load_scans(tmp_path)
    for subject in ("a", "b"):
        np.testing.assert_array_equal(voxels(row_of(data, subject)["t1"]), values)
    np.testing.assert_allclose(row_of(data, "b")["t1"].affine, AFFINE, atol=1e-6)
    stored = [row["t1"] for split in data.values() for row in split.data.to_pylist()]
    assert all(nibabel.Nifti1Image.from_bytes(gzip.decompress(image["bytes"])) for image in stored)


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd"])
def test_formats_of_itk_become_nifti(tmp_path: Path, ending: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    for number in (1, 2):
        image = sitk.GetImageFromArray(scan(number).array[0].T.copy())
        image.SetSpacing((1.0, 2.0, 3.0))
        image.SetOrigin((4.0, 5.0, 6.0))
        sitk.WriteImage(image, str(tmp_path / f"p{number}_t1{ending}"))
    row = row_of(load_scans(tmp_path), "p2")
    np.testing.assert_array_equal(voxels(row["t1"]), scan(2).array[0])
    np.testing.assert_allclose(row["t1"].affine, [[-1, 0, 0, -4], [0, -2, 0, -5], [0, 0, 3, 6], [0, 0, 0, 1]])


def write_series(folder: Path, value: int) -> None:
    """A small MR series, its slices in disorder, with a patient's name that must not be kept."""
    pydicom = pytest.importorskip("pydicom")
    series = pydicom.uid.generate_uid()
    folder.mkdir(parents=True)
    for index in range(4):
        item = pydicom.Dataset()
        item.SOPClassUID, item.SOPInstanceUID = pydicom.uid.MRImageStorage, pydicom.uid.generate_uid()
        item.Modality, item.SeriesInstanceUID, item.StudyInstanceUID = "MR", series, series
        item.FrameOfReferenceUID, item.PatientName, item.InstanceNumber = series, "Doe^Jane", 4 - index
        item.ImagePositionPatient, item.ImageOrientationPatient = [0, 0, 2 * index], [1, 0, 0, 0, 1, 0]
        item.PixelSpacing, item.SliceThickness = [1, 1], 2
        item.Rows, item.Columns, item.SamplesPerPixel, item.PhotometricInterpretation = 5, 6, 1, "MONOCHROME2"
        item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 16, 16, 15, 0
        item.PixelData = np.full((5, 6), 100 * value + index, np.uint16).tobytes()
        item.file_meta = pydicom.dataset.FileMetaDataset()
        item.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        item.save_as(folder / f"{3 - index}.dcm", enforce_file_format=True)


def test_dicom_folders_become_nifti(tmp_path: Path) -> None:
    for value in (1, 2):
        write_series(tmp_path / f"p{value}" / "t1", value)
    (tmp_path / "p1" / "t1" / "0.dcm").rename(tmp_path / "p1" / "t1" / "1.2.840.7")  # identified by its content
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    stored = load_scans(tmp_path, test_fraction=0)["train"]
    image = stored[1]["t1"]
    assert (stored["subject"][:], image.shape) == (["p1", "p2"], (6, 5, 4))
    np.testing.assert_array_equal(np.sort(voxels(image)[0, 0]), [200, 201, 202, 203])
    assert b"Doe" not in gzip.decompress(stored.data.to_pylist()[1]["t1"]["bytes"])


TABLE = """patient,file_name,mask_file_name,age,site,scanner,count
12,c.nii.gz,masks/c.nii.gz,,4,Skyra,1
007,a.nii.gz,masks/a.nii.gz,61.5,3,Aera,2
007,b.nii.gz,,62.5,3,,
"""


@pytest.fixture
def tabled(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    for value, name in enumerate(("a", "b", "c", "masks/a", "masks/c"), 1):
        put(folder / f"{name}.nii.gz", value)
    (tmp_path / "table.csv").write_text(TABLE)
    return folder


def test_a_table_gives_scans_and_columns(tabled: Path) -> None:
    data = load_scans(tabled, tabled.parent / "table.csv", subject_column="patient")
    assert data["train"].features == datasets.Features(
        subject=datasets.Value("string"),
        image=datasets.Nifti(),
        mask=datasets.Nifti(),
        age=datasets.Value("float64"),
        site=datasets.Value("int64"),
        scanner=datasets.Value("string"),
        count=datasets.Value("float64"),
    )
    together = load_scans(tabled, tabled.parent / "table.csv", subject_column="patient", test_fraction=0)
    assert together["train"]["subject"][:] == ["007", "007", "12"]
    known = {"subject": "12", "age": None, "site": 4, "scanner": "Skyra", "count": 1.0}
    assert known_of(data, "12") == known
    np.testing.assert_array_equal(voxels(row_of(data, "12")["image"]), scan(3).array[0])
    np.testing.assert_array_equal(voxels(row_of(data, "12")["mask"]), scan(5).array[0])
    both = row_of(data, 62.5, "age")
    assert (both["subject"], both["mask"], both["scanner"]) == ("007", None, None)


def test_a_table_is_held_to_its_folder_and_all_issues_are_reported_at_once(
    tabled: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path / "outside.nii.gz", 9)
    put(tabled / "unused.nii.gz", 9)
    (tabled / "broken.nii.gz").write_bytes(b"\x1f\x8b")
    bad = {
        "p1": "../outside.nii.gz",
        "p2": str(tmp_path / "outside.nii.gz"),
        "p3": r"..\outside.nii.gz",
        "p4": "C:outside.nii.gz",
        "p5": "absent.nii.gz",
        "p6": "a.nii.gz",  # patient 007 has it
        "p7": "broken.nii.gz",
        "": "b.nii.gz",
    }
    table = tmp_path / "table.csv"
    table.write_text(TABLE + "".join(f"{subject},{name},,,,,\n" for subject, name in bad.items()))
    with pytest.raises(DatasetError, match="has 9 issues") as caught:
        load_scans(tabled, table, subject_column="patient")
    texts = {issue.subject: issue.text for issue in reversed(caught.value.issues)}
    for subject in ("p1", "p2", "p3", "p4"):
        assert texts[subject].startswith(f"the table names {bad[subject]!r}; expected a path below the folder")
    assert texts["p5"] == "no absent.nii.gz, which the table names; expected it below the folder"
    assert texts["p6"] == "a.nii.gz is the scan of 007 too; expected one owner"
    assert texts["p7"].startswith(str(tabled / "broken.nii.gz"))
    assert texts["row 11"] == "no patient in table.csv; expected whose scan it is"
    with caplog.at_level(logging.WARNING):
        data = load_scans(tabled, table, subject_column="patient", skip_invalid=True)
    assert all_of(data) == ["007", "007", "12"]
    assert "table.csv has no row for unused.nii.gz" in caplog.text


@pytest.mark.parametrize("name", ["subject", "Subject ID", "subject_id", "PatientID", "participant_id"])
def test_the_column_of_subjects_is_known_in_any_spelling(tabled: Path, name: str) -> None:
    (tabled.parent / "table.csv").write_text(TABLE.replace("patient", name))
    data = load_scans(tabled, tabled.parent / "table.csv")
    assert sorted(subject for split in data.values() for subject in split["subject"]) == ["007", "007", "12"]
    assert not {*data["train"]["subject"]} & {*data["test"]["subject"]}


def test_blanks_around_a_subject_make_no_other_one(tabled: Path) -> None:
    (tabled.parent / "table.csv").write_text(TABLE.replace("007,b", "007\u00a0,b"), encoding="utf-8")
    data = load_scans(tabled, tabled.parent / "table.csv")
    assert sorted(subject for split in data.values() for subject in split["subject"]) == ["007", "007", "12"]


def test_a_scan_in_two_rows_is_refused_unless_its_label_maps_differ(tabled: Path) -> None:
    table = tabled.parent / "table.csv"
    table.write_text("subject,file_name,mask_file_name\n1,a.nii.gz,masks/a.nii.gz\n1,a.nii.gz,masks/c.nii.gz\n")
    assert len(load_scans(tabled, table, test_fraction=0)["train"]) == 2
    table.write_text("subject,file_name,mask_file_name\n1,a.nii.gz,\n1,a.nii.gz,\n2,b.nii.gz,\n")
    with pytest.raises(DatasetError, match=r"a\.nii\.gz in two rows of table\.csv; expected one: remove the other"):
        load_scans(tabled, table)


def test_a_table_with_semicolons_and_decimal_commas_is_read(tabled: Path) -> None:
    (tabled.parent / "table.csv").write_text(TABLE.replace(",", ";").replace("61.5", "61,5").replace("62.5", "62,5"))
    rows = load_scans(tabled, tabled.parent / "table.csv", test_fraction=0)["train"]
    assert rows["age"][:] == [61.5, 62.5, None]


def test_a_table_without_the_columns_is_refused(tabled: Path, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(TABLE.replace("patient", "who"))
    with pytest.raises(ValueError, match="has no column subject; it has who, file_name"):
        load_scans(tabled, tmp_path / "table.csv")
    (tmp_path / "table.csv").write_text("subject,path\n1,a.nii.gz\n")
    with pytest.raises(ValueError, match="has the columns subject, path; expected file_name"):
        load_scans(tabled, tmp_path / "table.csv")
    (tmp_path / "table.csv").write_text("subject,file_name,image\n1,a.nii.gz,3\n")
    with pytest.raises(ValueError, match="no other column called image, <name> or subject"):
        load_scans(tabled, tmp_path / "table.csv")


def test_two_files_of_one_name_are_a_issue(tmp_path: Path) -> None:
    put(tmp_path / "p1_t1.nii", 1)
    put(tmp_path / "p1_t1.nii.gz", 1)
    put(tmp_path / "p2_t1.nii.gz", 1)
    with pytest.raises(DatasetError, match=r"p1: 2 of t1 \(p1_t1.nii, p1_t1.nii.gz\); expected one"):
        load_scans(tmp_path)


def test_a_folder_without_scans_is_refused_with_an_example(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").touch()
    with pytest.raises(ValueError, match="holds no scans in the layout of your own scans; expected files such as pat"):
        load_scans(tmp_path)
