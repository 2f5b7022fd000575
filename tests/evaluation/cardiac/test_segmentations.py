"""Segmentations of a CAMUS folder: found by name, on the grid of the ground truth, or refused before any work."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from meddiffusers.data.io import read, write
from meddiffusers.data.layouts.camus import write_camus
from meddiffusers.data.scan import Scan
from meddiffusers.evaluation.cardiac.segmentations import load_segmentations

pytestmark = pytest.mark.slow
SMALL = {"frames": 5, "shape": (32, 28), "spacing": 5.0, "half_cycle": True}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_camus([1, 2, 3], tmp_path_factory.mktemp("camus") / "set", **SMALL)


@pytest.fixture
def own(truth: Path, tmp_path: Path) -> Path:
    """The ground truth, moved by a pixel, as a user's segmentations in one flat folder."""
    (tmp_path / "own").mkdir()
    for path in sorted(truth.rglob("*_half_sequence_gt.nii.gz")):
        scan = read(path, modality="labels")
        write(scan.like(np.roll(scan.array, 1, axis=1)), tmp_path / "own" / path.name.replace("_gt", "_pred"))
    return tmp_path / "own"


def test_each_sequence_gets_its_own_segmentation(truth: Path, own: Path) -> None:
    loaded = load_segmentations(str(truth), own, "all")
    assert [(each.subject, each.view) for each in loaded.sequences] == [
        (f"patient000{number}", view) for number in (1, 2, 3) for view in ("2CH", "4CH")
    ]
    for sequence, segmented in zip(loaded.sequences, loaded.segmented, strict=True):
        np.testing.assert_array_equal(segmented, np.roll(sequence.labels, 1, axis=2))
    assert loaded.notes == []


@pytest.mark.parametrize("end", ["", "_gt", "_pred", "-mask"])
def test_names_may_have_any_ending_and_folders(truth: Path, own: Path, end: str) -> None:
    for path in sorted(own.iterdir()):
        folder = own / path.name[:11]
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name.replace("_pred", end))
    assert len(load_segmentations(str(truth), own, "all").segmented) == 6


def test_metaimage_and_frames_as_channels(truth: Path, own: Path) -> None:
    pytest.importorskip("SimpleITK")
    path = own / "patient0001_4CH_half_sequence_pred.nii.gz"
    scan = read(path, modality="labels")
    write(scan, own / "patient0001_4CH.mha")
    path.unlink()
    path = own / "patient0002_4CH_half_sequence_pred.nii.gz"
    scan = read(path, modality="labels")
    channels = Scan(np.moveaxis(scan.array[0], 2, 0)[..., None], scan.affine, "labels")
    loaded = load_segmentations(str(truth), own, "all")
    write(channels, path)
    again = load_segmentations(str(truth), own, "all")
    for one, other in zip(loaded.segmented, again.segmented, strict=True):
        np.testing.assert_array_equal(one, other)


def test_only_the_split_is_needed_and_others_are_noted(truth: Path, own: Path) -> None:
    name = (truth / "subGroup1_testing.txt").read_text().strip()
    kept = {f"{name}_{view}_half_sequence_pred.nii.gz" for view in ("2CH", "4CH")}
    other = next(path for path in sorted(own.iterdir()) if path.name not in kept)
    for path in own.iterdir():
        if path not in (other, *(own / each for each in kept)):
            path.unlink()
    shutil.copy(other, own / f"{name}_4CH_ED.nii.gz")
    loaded = load_segmentations(str(truth), own, "test")
    assert {each.subject for each in loaded.sequences} == {name} and len(loaded.segmented) == 2
    assert loaded.notes == [
        f"1 file of {own} of other patients or views are not compared: {other.name}",
        f"1 file of {own} are not named as a sequence: {name}_4CH_ED.nii.gz",
    ]
    assert len(load_segmentations(str(truth), own, "test", 1).segmented) == 1


def test_missing_ones_are_listed_with_those_that_are_there(truth: Path, own: Path) -> None:
    for name in ("patient0001_4CH", "patient0003_2CH"):
        (own / f"{name}_half_sequence_pred.nii.gz").unlink()
    with pytest.raises(ValueError, match="no segmentation of 2 of 6 sequences") as caught:
        load_segmentations(str(truth), own, "all")
    assert ": patient0001_4CH, patient0003_2CH. It has patient0001_2CH, patient0002_2CH, patient0002_4CH, " in str(
        caught.value
    )
    with pytest.raises(ValueError, match="is no folder; expected one with segmentations such as patient0001_4CH"):
        load_segmentations(str(truth), own / "absent", "all")


def test_two_files_of_one_sequence_are_refused(truth: Path, own: Path) -> None:
    shutil.copy(own / "patient0002_4CH_half_sequence_pred.nii.gz", own / "patient0002_4CH_half_sequence_gt.nii.gz")
    with pytest.raises(ValueError, match="several files of one sequence; expected one") as caught:
        load_segmentations(str(truth), own, "all")
    assert "patient0002_4CH_half_sequence_gt.nii.gz, patient0002_4CH_half_sequence_pred.nii.gz" in str(caught.value)


def test_all_that_cannot_be_compared_is_in_one_report(truth: Path, own: Path) -> None:
    scans = {path.name[:15]: (path, read(path, modality="labels")) for path in sorted(own.iterdir())}
    path, scan = scans["patient0001_2CH"]
    write(Scan(scan.array[..., :4], scan.affine, "labels"), path)
    path, scan = scans["patient0001_4CH"]
    write(Scan(scan.array, scan.affine @ np.diag([2, 2, 1, 1]), "labels"), path)
    path, scan = scans["patient0002_2CH"]
    write(Scan(scan.array, np.diag([-1, 1, 1, 1]) @ scan.affine, "labels"), path)
    path, scan = scans["patient0002_4CH"]
    write(Scan(3 * scan.array, scan.affine, "labels"), path)
    path, scan = scans["patient0003_2CH"]
    write(Scan(np.minimum(scan.array, 1), scan.affine, "labels"), path)
    scans["patient0003_4CH"][0].write_bytes(b"no scan")
    with pytest.raises(ValueError, match="6 of 6 segmentations cannot be compared") as caught:
        load_segmentations(str(truth), own, "all")
    lines = str(caught.value).splitlines()[1:]
    for line, name, reason in zip(
        lines,
        scans,
        (
            "4 frames of 32×28 pixels of 5×5 mm; expected 5 frames of 32×28 pixels of 5×5 mm, as in patient0001_2CH",
            "5 frames of 32×28 pixels of 10×10 mm; expected 5 frames of 32×28 pixels of 5×5 mm",
            "lies elsewhere than patient0002_2CH_half_sequence_gt.nii.gz",
            "got labels from 0 to 9; expected them from 0 to 3",
            "no frame shows the LV (label 1) and the myocardium (label 2)",
            "patient0003_4CH_half_sequence_pred.nii.gz",
        ),
        strict=True,
    ):
        assert f"{name}_half_sequence_pred.nii.gz" in line and reason in line
