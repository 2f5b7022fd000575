from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pandas
import pytest
from helpers.rows import known_of, row_of, voxels
from helpers.small_subjects import AFFINE, small_subject, unpack

from meddiffusers.data.layouts import write_ixi
from meddiffusers.data.layouts.ixi import COLUMNS
from meddiffusers.datasets.public import DatasetError, ixi

IMAGES = {2: ("t1", "t2", "pd"), 12: ("t1", "t2", "flair"), 25: ("t1", "pd")}
SEX = "SEX_ID (1=m, 2=f)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    subjects = (
        small_subject(2, IMAGES[2], age=35.8, sex="F", height=164, weight=58, site="Guys"),
        small_subject(12, IMAGES[12], age=38.78, sex="M", site="HH"),
        small_subject(25, IMAGES[25], site="IOP"),
    )
    return write_ixi(subjects, tmp_path / "ixi")


def write_table(path: Path, rows: list[dict]) -> Path:
    pandas.DataFrame(rows, columns=COLUMNS).to_csv(path, index=False)
    return path


def test_scans_and_table_come_back(folder: Path) -> None:
    unpack(folder / "IXI002-Guys-0002-T2.nii.gz")
    data = ixi(folder)
    for number, names in IMAGES.items():
        row, subject = row_of(data, f"IXI{number:03d}"), small_subject(number, names)
        for name in ("t1", "t2", "pd"):
            if name not in names:
                assert row[name] is None
                continue
            np.testing.assert_array_equal(voxels(row[name]), subject.images[name].array[0])
            np.testing.assert_allclose(row[name].affine, AFFINE, atol=1e-6)
    assert known_of(data, "IXI002") == {
        "subject": "IXI002", "site": "Guys", "field_strength": 1.5, "age": 35.8, "sex": "F",
        "height": 164.0, "weight": 58.0,
    }  # fmt: skip
    assert known_of(data, "IXI012") == {
        "subject": "IXI012", "site": "HH", "field_strength": 3.0, "age": 38.78, "sex": "M",
        "height": None, "weight": None,
    }  # fmt: skip
    assert known_of(data, "IXI025") == {
        "subject": "IXI025", "site": "IOP", "field_strength": 1.5, "age": None, "sex": None,
        "height": None, "weight": None,
    }  # fmt: skip


def test_a_folder_for_each_modality_serves_too(folder: Path, tmp_path: Path) -> None:
    for modality in ("T1", "T2", "PD"):
        (tmp_path / "apart" / f"IXI-{modality}").mkdir(parents=True)
        for file in sorted(folder.glob(f"*-{modality}.nii.gz")):
            shutil.copy(file, tmp_path / "apart" / f"IXI-{modality}")
    (tmp_path / "apart" / "IXI-DTI").mkdir()
    (tmp_path / "apart" / "IXI-DTI" / "IXI002-Guys-0002-DTI-00.nii.gz").touch()
    together, apart = ixi(folder), ixi(tmp_path / "apart", table=folder / "IXI.xls")
    assert apart["train"].features == together["train"].features
    for subject in ("IXI002", "IXI012", "IXI025"):
        assert known_of(apart, subject) == known_of(together, subject)


def test_a_modality_that_nobody_has_is_no_column(folder: Path) -> None:
    for file in folder.glob("*-PD.nii.gz"):
        file.unlink()
    assert "pd" not in ixi(folder)["train"].features


def test_the_traps_of_the_table(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        {"IXI_ID": 2, SEX: 2, "HEIGHT": 164, "WEIGHT": 0, "AGE": 35.8},
        {"IXI_ID": 12, SEX: 1, "HEIGHT": 180, "WEIGHT": 70, "AGE": 38.5},
        {"IXI_ID": 12, SEX: 1, "HEIGHT": 175, "WEIGHT": 70, "AGE": 38.5},
        {"IXI_ID": 999, SEX: 1, "HEIGHT": 175, "WEIGHT": 70, "AGE": 40},
        {},
    ]
    with caplog.at_level(logging.WARNING):
        data = ixi(folder, table=write_table(tmp_path / "table.csv", rows))
    assert known_of(data, "IXI002")["weight"] is None
    twice = known_of(data, "IXI012")
    assert (twice["sex"], twice["height"], twice["weight"], twice["age"]) == ("M", None, 70.0, 38.5)
    assert known_of(data, "IXI025")["age"] is None
    assert "table.csv has more than one row for IXI012; values on which they disagree are left out" in caplog.text
    assert "table.csv has rows without scans: IXI999" in caplog.text
    assert "table.csv has no row for IXI025" in caplog.text


def test_without_a_table_the_site_alone_is_known(folder: Path) -> None:
    (folder / "IXI.xls").unlink()
    known = known_of(ixi(folder), "IXI012")
    assert (known["site"], known["field_strength"], known["age"], known["sex"]) == ("HH", 3.0, None, None)


def test_double_and_damaged_files_are_reported_together(folder: Path) -> None:
    unpack(folder / "IXI002-Guys-0002-T1.nii.gz")
    shutil.copy(folder / "IXI002-Guys-0002-T2.nii.gz", folder / "IXI002-Guys-0002-T1.nii.gz")
    (folder / "IXI025-IOP-0025-PD.nii.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DatasetError, match="has 2 issues") as caught:
        ixi(folder)
    double, damaged = caught.value.issues
    names = "IXI002-Guys-0002-T1.nii, IXI002-Guys-0002-T1.nii.gz"
    assert double == ("IXI002", f"2 of t1 ({names}); expected one: remove the others")
    assert damaged.subject == "IXI025"
    assert [row["subject"] for row in ixi(folder, skip_invalid=True, test_fraction=0)["train"]] == ["IXI012"]


def test_another_layout_or_table_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no scans in the layout of IXI; expected files such as IXI002-Guys"):
        ixi(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"absent\.xls: no such table"):
        ixi(folder, table=tmp_path / "absent.xls")
    (tmp_path / "broken.xls").write_bytes(b"no spreadsheet")
    with pytest.raises(ValueError, match=r"broken\.xls is no table that can be read"):
        ixi(folder, table=tmp_path / "broken.xls")
