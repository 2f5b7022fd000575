from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers.rows import all_of, row_of, voxels
from helpers.small_subjects import AFFINE, small_subject

from meddiffusers.data.layouts import write_ibsr
from meddiffusers.data.layouts.folders import tissues
from meddiffusers.datasets.public import DatasetError, ibsr18


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_ibsr((small_subject(number, ("t1",)) for number in (1, 2, 3)), tmp_path / "ibsr")


def check(folder: Path, affine: np.ndarray) -> None:
    data = ibsr18(folder)
    assert list(data["train"].features) == ["subject", "t1", "seg", "tissues"]
    for number in (1, 2, 3):
        row, subject = row_of(data, f"IBSR_{number:02d}"), small_subject(number, ("t1",))
        np.testing.assert_array_equal(voxels(row["t1"]), subject.images["t1"].array[0])
        np.testing.assert_array_equal(voxels(row["seg"]), subject.regions.array[0])
        np.testing.assert_array_equal(voxels(row["tissues"]), tissues(subject.regions).array[0])
        np.testing.assert_allclose(row["seg"].affine, affine, atol=1e-6)


def test_the_nifti_variant_comes_back(folder: Path) -> None:
    check(folder, AFFINE)


def test_the_analyze_variant_comes_back(folder: Path) -> None:
    for file in sorted(folder.rglob("*.nii.gz")):
        image = nibabel.load(file)
        pair = nibabel.AnalyzeImage(np.asanyarray(image.dataobj)[..., None], image.affine)
        deep = file.parent / ("segmentation" if "seg" in file.name else "images") / "analyze"
        deep.mkdir(parents=True, exist_ok=True)
        nibabel.save(pair, deep / f"{file.name.removesuffix('.nii.gz')}.hdr")
        file.unlink()
    spacing = np.abs(np.diag(AFFINE))[:3] * (-1, 1, 1)
    check(folder, nibabel.affines.from_matvec(np.diag(spacing), -spacing * (2.5, 3, 2)))


def test_missing_labels_are_a_issue_and_missing_tissues_none(folder: Path) -> None:
    (folder / "IBSR_02" / "IBSR_02_seg_ana.nii.gz").unlink()
    (folder / "IBSR_03" / "IBSR_03_segTRI_ana.nii.gz").unlink()
    with pytest.raises(DatasetError, match="has 1 issue:\n  - IBSR_02: no …_seg_ana; expected one file"):
        ibsr18(folder)
    data = ibsr18(folder, skip_invalid=True)
    assert all_of(data) == ["IBSR_01", "IBSR_03"]
    assert row_of(data, "IBSR_03")["tissues"] is None


def test_another_layout_is_refused_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="layout of IBSR_18; expected files such as IBSR_01/IBSR_01_ana"):
        ibsr18(tmp_path)
