from __future__ import annotations

import logging
import shutil
from pathlib import Path

import datasets
import nibabel
import numpy as np
import pytest
from helpers.rows import values_of, voxels
from helpers.small_subjects import unpack

from meddiffusers.data.layouts.camus import write_camus
from meddiffusers.data.phantoms.cardiac import CardiacPhantom
from meddiffusers.datasets.public import DatasetError
from meddiffusers.datasets.public.camus import camus

SMALL = {"frames": 5, "shape": (24, 20), "spacing": 7.0}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    folder = tmp_path_factory.mktemp("cardiac_phantom")
    return {half: write_camus(range(1, 6), folder / str(half), half_cycle=half, **SMALL) for half in (True, False)}


@pytest.fixture
def folder(written: dict[bool, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written[True], tmp_path / "camus"))


def row(data: datasets.DatasetDict, subject: str, view: str) -> dict:
    rows = [row for split in data.values() for row in split if (row["subject"], row["view"]) == (subject, view)]
    assert len(rows) == 1
    return rows[0]


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.slow
def test_written_phantoms_are_loaded(written: dict[bool, Path], half: bool) -> None:
    data = camus(written[half])
    assert sum(map(len, data.values())) == 10
    name = "patient0002" if half else "patient002"
    for view in ("2CH", "4CH"):
        loaded, phantom = row(data, name, view), CardiacPhantom(2, view)
        phases = phantom.phases(5, half)
        labels = phantom.labels(phases, (24, 20), 7.0)
        np.testing.assert_array_equal(voxels(loaded["labels"]), labels.T)
        np.testing.assert_array_equal(voxels(loaded["sequence"]), phantom.images(phases, (24, 20), 7.0).T)
        assert nibabel.affines.voxel_sizes(loaded["sequence"].affine).tolist() == [7.0, 7.0, 1.0]
        areas = phantom.ground_truth(phases)["lv_area"]
        assert (loaded["ed_frame"], loaded["es_frame"], loaded["frames"]) == (0, areas.argmin(), 5)
        assert loaded["ejection_fraction"] == pytest.approx(phantom.ejection_fraction, abs=0.006)
        assert loaded["quality"] == phantom.heart.quality
        seconds = (phases[-1] - phases[0]) * phantom.heart.cycle.seconds
        assert loaded["frame_rate"] == pytest.approx(4 / seconds, abs=0.06)
        assert loaded["sex"] in ("F", "M")
        assert 18 <= loaded["age"] <= 95


def test_lists_define_the_splits(folder: Path) -> None:
    for number in (1, 3):
        data = camus(folder, subgroup=number)
        for split, part in (("train", "training"), ("validation", "validation"), ("test", "testing")):
            names = (folder / f"subGroup{number}_{part}.txt").read_text().split()
            assert sorted({*data[split]["subject"]}) == sorted(names)
            assert len(data[split]) == 2 * len(names)


def test_without_lists_patients_are_split_whole(folder: Path) -> None:
    for data in (camus(folder, subgroup=None, test_fraction=0.4), without_lists(folder)):
        subjects = {name: {*values} for name, values in values_of(data).items()}
        assert sorted(subjects) == ["test", "train"]
        assert len(subjects["test"]) == 2
        assert not subjects["test"] & subjects["train"]


def without_lists(folder: Path) -> datasets.DatasetDict:
    for path in folder.glob("subGroup*.txt"):
        path.unlink()
    return camus(folder, test_fraction=0.4)


@pytest.mark.slow
def test_the_split_depends_on_the_seed_only(folder: Path) -> None:
    splits = [values_of(camus(folder, subgroup=None, seed=seed))["test"] for seed in (0, 0, 1, 2, 3)]
    assert splits[0] == splits[1]
    assert len({tuple(split) for split in splits}) > 1


def test_a_cycle_may_begin_with_end_systole_and_lack_optional_values(folder: Path) -> None:
    (folder / "patient0001/Info_4CH.cfg").write_text("ED: 5\nES: 1\nNbFrame: 5\nLVef: 50.2\n")
    loaded = row(camus(folder), "patient0001", "4CH")
    assert (loaded["ed_frame"], loaded["es_frame"]) == (4, 0)
    unknown = ("frame_rate", "quality", "ejection_fraction", "age", "sex")
    assert [loaded[name] for name in unknown] == [None] * 5


def corrupt(folder: Path) -> list[tuple[str, str]]:
    """Cause issues of every kind; return their subjects and the beginnings of their texts."""
    for path in (folder / "patient0001").glob("*2CH*"):
        path.unlink()
    (folder / "patient0002/Info_4CH.cfg").write_text("ED: 1\nES: five\nNbFrame: 9\n")
    whole = (folder / "patient0003/patient0003_4CH_half_sequence.nii.gz").read_bytes()
    (folder / "patient0003/patient0003_4CH_half_sequence.nii.gz").write_bytes(whole[: len(whole) // 2])
    info = folder / "patient0004/Info_2CH.cfg"
    info.write_text(info.read_text().replace("ES: 5", "ES: 6"))
    labels = folder / "patient0004/patient0004_4CH_half_sequence_gt.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((20, 24, 4), np.uint8), nibabel.load(labels).affine), labels)
    return [
        ("patient0001", "no patient0001_2CH_…sequence; expected one file"),
        ("patient0001", "no patient0001_2CH_…sequence_gt; expected one file"),
        ("patient0001", "no Info_2CH.cfg or patient0001_2CH_info.cfg"),
        ("patient0002", "Info_4CH.cfg: no whole number ES"),
        ("patient0003", str(folder / "patient0003/patient0003_4CH_half_sequence.nii.gz")),
        ("patient0004", "mixed grids: sequence (20, 24, 5), labels (20, 24, 4) voxels"),
        ("patient0002", "patient0002_4CH_half_sequence.nii.gz has 5 frames, its .cfg says 9"),
        ("patient0004", "patient0004_2CH: ED or ES at frame 6; expected 1 to 5"),
    ]


def test_one_report_lists_all_issues(folder: Path) -> None:
    expected = corrupt(folder)
    with pytest.raises(DatasetError, match="has 8 issues:") as caught:
        camus(folder)
    assert [issue.subject for issue in caught.value.issues] == [subject for subject, _ in expected]
    for issue, (_, start) in zip(caught.value.issues, expected, strict=True):
        assert issue.text.startswith(start)


def test_the_other_subjects_are_loaded_on_request(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    corrupt(folder)
    with caplog.at_level(logging.WARNING):
        data = camus(folder, skip_invalid=True)
    assert [row["subject"] for split in data.values() for row in split] == ["patient0005"] * 2
    assert "4 subjects are left out" in caplog.text


def test_a_patient_in_no_list_is_an_issue(folder: Path) -> None:
    testing = folder / "subGroup1_testing.txt"
    name = testing.read_text().strip()
    testing.write_text("patient0999\n")
    with pytest.raises(DatasetError, match=f"{name}: in no list of subGroup1; expected one: set subgroup=None"):
        camus(folder)
    training = folder / "subGroup1_training.txt"
    testing.write_text(f"{name}\n{training.read_text().split()[0]}\n")
    with pytest.raises(DatasetError, match="in the lists of train and test of subGroup1"):
        camus(folder)
    with pytest.raises(
        ValueError, match=r"has no subGroup9_training.txt.*it has subGroup1_testing.txt.*another subgroup"
    ):
        camus(folder, subgroup=9)


def test_plain_nifti_and_a_folder_around(folder: Path) -> None:
    unpack(folder / "patient0003/patient0003_2CH_half_sequence.nii.gz")
    loaded = row(camus(folder.parent), "patient0003", "2CH")
    expected = CardiacPhantom(3, "2CH").images(CardiacPhantom(3, "2CH").phases(5, True), (24, 20), 7.0)
    np.testing.assert_array_equal(voxels(loaded["sequence"]), expected.T)


def test_a_patient_of_ted_may_have_one_view(written: dict[bool, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(written[False], tmp_path / "ted"))
    for path in folder.rglob("*_2CH_*"):
        path.unlink()
    assert [row["view"] for split in camus(folder).values() for row in split] == ["4CH"] * 5
    for path in (folder / "patient003").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match="patient003: no patient003_2CH_…sequence; expected one file"):
        camus(folder)


@pytest.mark.slow
def test_metaimage_comes_back(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    folder = write_camus([1, 2, 3], tmp_path / "camus", ending=".mhd", **SMALL)
    loaded = row(camus(folder, verify=True), "patient002", "4CH")
    expected = CardiacPhantom(2).labels(CardiacPhantom(2).phases(5), (24, 20), 7.0)
    np.testing.assert_array_equal(voxels(loaded["labels"]), expected.T)
    assert nibabel.affines.voxel_sizes(loaded["labels"].affine).tolist() == [7.0, 7.0, 1.0]


def test_another_layout_is_refused_with_an_example(tmp_path: Path) -> None:
    (tmp_path / "IXI002-Guys-0828-T1.nii.gz").touch()
    with pytest.raises(ValueError, match="layout of CAMUS; expected files such as patient0001/patient0001_4CH_half"):
        camus(tmp_path)
