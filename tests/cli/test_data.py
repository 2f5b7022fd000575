from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import datasets
import nibabel
import nibabel.testing
import numpy as np
import PIL.Image
import pytest
import SimpleITK
from helpers.command_line import run, stops

from meddiffusers.data.inspection import inspect_scan, label_names
from meddiffusers.data.io import read, write
from meddiffusers.data.io.scan_search import find_scans
from meddiffusers.data.phantoms.brain import population
from meddiffusers.data.phantoms.brain.contrasts import MODALITIES
from meddiffusers.data.phantoms.brain.template import template
from meddiffusers.data.scan import Scan
from meddiffusers.datasets.public import brats, camus

SCANS = Path(__file__).parents[2] / "examples" / "scans"
AFFINE = np.array([[-1.5, 0, 0, 20], [0, 1, 0, -30], [0, 0, 2, 5], [0, 0, 0, 1]])


def image(**changes: Any) -> np.ndarray:
    array = np.random.default_rng(0).integers(1, 1000, (12, 14, 10)).astype(np.float32)
    array[:2] = 0
    array.flat[0] = changes.pop("first", 0)
    return array


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Valid scans in one folder, and one in a subfolder."""
    labels = np.zeros((12, 14, 10), np.uint8)
    labels[3:5, 3:5, 3:8], labels[6, 6, 6] = 4, 1
    for name, array in (("a_t1", image()), ("b_t1", image()), ("below/c_t2", image()), ("a_seg", labels)):
        write(Scan(array, AFFINE), tmp_path / "scans" / f"{name}.nii.gz")
    return tmp_path / "scans"


def row(output: str, name: str) -> str:
    (line,) = [line for line in output.splitlines() if line.split()[:1] == [name]]
    return " ".join(line.split())


def test_inspect_lists_the_scans_of_a_folder(folder: Path, tmp_path: Path) -> None:
    result = run("data", "inspect", folder, "--output", tmp_path / "out", "--images", 3)
    low, high = np.percentile(image()[image() > 0], (1, 99))
    found = row(result.output, "a_t1.nii.gz")
    assert found.startswith("a_t1.nii.gz NIfTI 12×14×10 1.5×1×2 LAS float32 0 to 999")
    assert found.endswith(f"{low:.5g} to {high:.5g} t1 name: t1")
    assert "labels 1: 0.0, 4: 0.1" in row(result.output, "a_seg.nii.gz")
    assert "t2" in row(result.output, "below/c_t2.nii.gz")
    assert f"4 scan(s), 0 issue(s). 3 image(s) in {tmp_path / 'out'}" in result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a_seg.nii.gz.png", "a_t1.nii.gz.png", "b_t1.nii.gz.png",
    ]  # fmt: skip
    assert np.asarray(PIL.Image.open(tmp_path / "out" / "a_t1.nii.gz.png")).std() > 10


def test_inspect_tells_what_a_modality_was_recognized_by(tmp_path: Path) -> None:
    for name in ("p_T1_post.nii", "p_T1_T2.nii", "p_T2_star.nii", "p.nii"):
        write(Scan(image(), AFFINE), tmp_path / "scans" / name)
    output = run("data", "inspect", tmp_path / "scans", "--output", tmp_path / "out", "--images", 0).output
    assert row(output, "p_T1_post.nii").endswith("t1ce name: t1, post")
    assert row(output, "p_T1_T2.nii").endswith("name: t1, t2: t1 or t2")
    assert row(output, "p_T2_star.nii").endswith("name: t2star: another kind of image")
    assert read(tmp_path / "scans" / "p_T1_post.nii").modality_from == "name: t1, post"
    assert read(tmp_path / "scans" / "p.nii").modality_from == ""


def test_inspect_prints_what_headers_leave_open_without_failing(tmp_path: Path) -> None:
    made = nibabel.Nifti1Image(image(), AFFINE)
    made.set_qform(AFFINE + 30 * np.eye(4, k=3), 1)
    made.set_sform(AFFINE, 1)
    nibabel.save(made, tmp_path / "p_t1.nii")
    output = run("data", "inspect", tmp_path / "p_t1.nii", "--output", tmp_path / "out", "--images", 0).output
    (note,) = read(tmp_path / "p_t1.nii").notes
    assert f"note: p_t1.nii: {note}" in output
    assert "1 scan(s), 0 issue(s)" in output


def test_inspect_names_regions_and_millilitres(tmp_path: Path) -> None:
    labels = np.zeros((10, 10, 10), np.int16)
    for number, label in enumerate((2, 3, 17, 53, 16)):
        labels[number, : number + 1] = label
    write(Scan(labels, np.diag([5.0, 10, 2, 1])), tmp_path / "aseg.nii.gz")
    output = run("data", "inspect", tmp_path / "aseg.nii.gz", "--output", tmp_path / "out").output
    assert "2: 1.0, 3: 2.0, 16: 5.0, 17: 3.0 and 1 more" in row(output, "aseg.nii.gz")
    assert row(output, "53") == "53 right hippocampus 4.00"
    assert row(output, "16") == "16 brainstem 5.00"


def test_lesion_labels_are_not_taken_for_regions(folder: Path) -> None:
    found, _ = inspect_scan(folder / "a_seg.nii.gz")
    assert found.labels == pytest.approx({1: 0.003, 4: 0.06})
    assert label_names(found.labels) == {1: "label 1", 4: "label 4"}


@pytest.mark.slow
def test_inspect_lists_all_issues_and_fails(folder: Path, tmp_path: Path) -> None:
    (folder / "cut.nii.gz").write_bytes((folder / "a_t1.nii.gz").read_bytes()[:900])
    write(Scan(image(first=np.nan), AFFINE), folder / "nan_t2.nii.gz")
    write(Scan(np.full((5, 5, 5), 7), np.eye(4)), folder / "flat.nii.gz")
    write(Scan(image() / 7, AFFINE), folder / "soft_seg.nii.gz")
    write(Scan(image(), np.diag([1.0, 1, 3, 1])), folder / "z_t1.nii.gz")
    output = run("data", "inspect", folder, "--output", tmp_path / "out", "--images", 0, status=1).output
    for name, issue in (
        ("nan_t2.nii.gz", "the image: 1 of 1680 voxels are NaN or infinite"),
        ("flat.nii.gz", "the image: percentiles 1 and 99 of the foreground are both 7"),
        ("soft_seg.nii.gz", "labels that are not integers"),
        ("cut.nii.gz", ""),
        ("z_t1.nii.gz", "another spacing than most t1 in its folder, 1.5×1×2 mm"),
    ):
        assert f"issue: {name}: {issue}" in output
    assert "issue: b_t1" not in output
    assert "9 scan(s), 5 issue(s). 0 image(s)" in output
    assert not (tmp_path / "out").exists()


def test_what_counts_as_a_scan(tmp_path: Path) -> None:
    series, mixed = tmp_path / "patient" / "series", tmp_path / "patient" / "mixed"
    shutil.copytree(SCANS / "head_pd", series)
    for path in series.iterdir():
        path.rename(series / path.stem)  # DICOM files often have no ending
    mixed.mkdir()
    shutil.copy(SCANS / "heart_cine.dcm", mixed / "heart_1.dcm")
    shutil.copy(SCANS / "head_pd" / "slice_01.dcm", mixed / "head.dcm")
    for name in ("notes.txt", ".hidden.nii", "pair.hdr", "pair.img", "table.csv"):
        (tmp_path / name).write_bytes(b"\0" * 200)
    expected = [tmp_path / "pair.hdr", mixed / "head.dcm", mixed / "heart_1.dcm", series]
    assert find_scans(tmp_path) == sorted(expected)
    assert find_scans(series) == [series]
    assert find_scans(mixed / "head.dcm") == [mixed / "head.dcm"]


@pytest.mark.slow
def test_inspect_the_scans_that_ship(tmp_path: Path) -> None:
    output = run("data", "inspect", SCANS, "--output", tmp_path).output
    assert "head_pd DICOM series 256×256×20 0.859×0.859×7" in row(output, "head_pd")
    assert "256×256×1, 16 channels" in row(output, "heart_cine.dcm")
    assert "labels 1: 16.4" in row(output, "tumour_1_seg.nrrd")
    assert len(list(tmp_path.glob("*.png"))) == 6


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.slow
def test_convert_keeps_voxels_and_place(ending: str, tmp_path: Path) -> None:
    output = run("data", "convert", SCANS / "head_pd", tmp_path / f"head{ending}").output
    assert f"→ {tmp_path / f'head{ending}'}: 256×256×20" in output
    before, after = read(SCANS / "head_pd"), read(tmp_path / f"head{ending}")
    np.testing.assert_array_equal(after.array, before.array)
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-4)
    peer = SimpleITK.ReadImage(str(tmp_path / f"head{ending}"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(peer).T, before.array[0])
    np.testing.assert_allclose(peer.GetOrigin(), before.affine[:3, 3] * (-1, -1, 1), atol=1e-3)


def test_convert_does_not_overwrite(folder: Path, monkeypatch: Any, capsys: Any) -> None:
    source, target = folder / "a_t1.nii.gz", folder / "b_t1.nii.gz"
    target.write_bytes(b"precious")
    message = stops(monkeypatch, capsys, "data", "convert", source, target)
    assert message.startswith(f"{target} exists; expected a new file. Give --force to overwrite it.")
    assert target.read_bytes() == b"precious"
    run("data", "convert", source, target, "--force")
    np.testing.assert_array_equal(nibabel.load(target).get_fdata(), image())


def test_errors_state_what_was_expected(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    assert "no such file or folder" in stops(monkeypatch, capsys, "data", "inspect", tmp_path / "none")
    assert "no scan in it or below it; expected NIfTI" in stops(monkeypatch, capsys, "data", "inspect", tmp_path)
    write(Scan(image(), AFFINE), tmp_path / "a.nii")
    message = stops(monkeypatch, capsys, "data", "convert", tmp_path / "a.nii", tmp_path / "a.docx")
    assert "unknown suffix" in message


@pytest.mark.slow
def test_phantom_writes_a_layout_that_its_loader_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    output = run("data", "phantom", tmp_path / "hearts", "--layout", "camus", "--n", "2", "--seed", "1").output
    assert f"2 phantom(s) in the layout of camus are in {tmp_path / 'hearts'}" in output
    data = camus(tmp_path / "hearts", test_fraction=0)
    assert sum(map(len, data.values())) == 4  # two views each
    assert {row["subject"] for row in data["train"]} == {"patient003", "patient004"}  # others than those of seed 0
    refused = stops(monkeypatch, capsys, "data", "phantom", tmp_path / "hearts", "--layout", "camus")
    assert "is not empty; expected a new folder" in refused


@pytest.mark.parametrize(
    ("layout", "n", "message"),
    [
        ("ibsr", 100, "Got --n 100 and --seed 3: subjects 1 to 100; the layout of ibsr has names for at most 99."),
        ("camus", 250, "subjects 751 to 1000; the layout of camus has names for at most 999"),
    ],
)
def test_phantoms_that_no_loader_would_find_are_refused(
    layout: str, n: int, message: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    arguments = ("--layout", layout, "--n", n, "--seed", 3)
    assert message in stops(monkeypatch, capsys, "data", "phantom", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_phantom_writes_brats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = population._on_grid
    monkeypatch.setattr(
        population, "_on_grid", lambda phantom, *_: fine(phantom, (30, 30, 20), (-8, -8, 8), MODALITIES[:4])
    )
    template()  # from the cache of this machine, before it is replaced
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    output = run("data", "phantom", tmp_path / "out", "--n", "1", "--seed", "4").output
    assert f"1 phantom(s) in the layout of brats are in {tmp_path / 'out'}" in output
    [row] = brats(tmp_path / "out", test_fraction=0)["train"]
    [subject] = population.brats_subjects(1, seed=4)
    np.testing.assert_array_equal(read(row["flair"]).array, subject.images["flair"].array)
