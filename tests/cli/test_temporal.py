"""`repair` and `evaluate temporal` with the shipped repository, on phantoms in the layout of CAMUS."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner, Result

from meddiffusers.cli import app
from meddiffusers.data.io import read, write
from meddiffusers.data.layouts.camus import write_camus
from meddiffusers.data.phantoms.cardiac import corrupt_sequence
from meddiffusers.evaluation.attributes import report as attribute_report

REPOSITORY = Path(__file__).parents[2] / "examples" / "checkpoints" / "ar-vae-cardiac"


def run(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], terminal_width=200)
    assert result.exit_code == status, result.output
    return result


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both views of a patient over a cardiac cycle, with errors in a fifth of the frames."""
    folder = write_camus([41], tmp_path_factory.mktemp("camus") / "set") / "patient041"
    for path in folder.glob("*_gt.nii.gz"):
        scan = read(path, modality="labels")
        corrupted, errors = corrupt_sequence(scan.array[0].transpose(2, 1, 0), 1.25, 1, 0.2)
        assert errors
        write(scan.like(corrupted.transpose(2, 1, 0)[None]), path)
    return folder


@pytest.mark.slow
def test_a_patient_is_repaired_in_both_views(patient: Path, tmp_path: Path) -> None:
    result = run("repair", REPOSITORY, patient, tmp_path / "out", "--cyclic")
    assert "Simpson's method of discs" in result.output and "with this jitter" in result.output.split("Simpson")[1]
    for view in ("2CH", "4CH"):
        stem = f"patient041_{view}_sequence_gt"
        before, after = read(patient / f"{stem}.nii.gz"), read(tmp_path / "out" / f"{stem}_repaired.nii.gz")
        assert after.shape == before.shape and not np.array_equal(after.array, before.array)
        np.testing.assert_allclose(after.affine, before.affine)
        summary = json.loads((tmp_path / "out" / f"{stem}.json").read_text())
        changed = {*summary["regenerated"], *summary["cleaned"]}
        assert {each["frame"] for each in summary["before"]["invalid"]} <= changed
        assert all(each["consistency_ratio"] > 1 and each["attribute"] for each in summary["before"]["inconsistent"])
        assert (
            summary["before"]["inconsistent"] and summary["after"]["inconsistent"] == summary["after"]["invalid"] == []
        )
        assert (
            len(summary["after"]["attributes"]["lv_area [mm²]"]) == 25 and 0 < summary["after"]["ejection_fraction"] < 1
        )
        for image in (f"{stem}_frames.png", f"{stem}_curves.png"):
            assert PIL.Image.open(tmp_path / "out" / image).width > 300
        with PIL.Image.open(tmp_path / "out" / f"{stem}.gif") as animation:
            assert animation.n_frames > 5  # type: ignore[attr-defined]  # equal frames are merged


@pytest.mark.slow
def test_a_single_file(patient: Path, tmp_path: Path) -> None:
    run("repair", REPOSITORY, patient / "patient041_4CH_sequence_gt.nii.gz", tmp_path, "--method", "smooth")
    assert (tmp_path / "patient041_4CH_sequence_gt_repaired.nii.gz").is_file()


def test_a_folder_without_label_maps_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["repair", str(REPOSITORY), str(tmp_path), str(tmp_path / "out")])
    assert result.exit_code and "expected a CAMUS patient" in str(result.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_evaluation_writes_every_method(tmp_path: Path) -> None:
    run("evaluate", "temporal", REPOSITORY, "--sequences", 2, "--output", tmp_path)
    metrics = {each["key"]: each for each in json.loads((tmp_path / "metrics.json").read_text())["metrics"]}
    for method in ("as_segmented", "reconstructed", "gaussian", "smooth", "repair"):
        assert f"dice_{method}" in metrics
    assert metrics["dice_repair"]["value"] > metrics["dice_as_segmented"]["value"]
    assert metrics["ef_error_repair"]["value"] < metrics["ef_error_as_segmented"]["value"]
    assert metrics["invalid_frames_repair"]["value"] == 0
    assert all(each["low"] <= each["value"] <= each["high"] for each in metrics.values())
    assert PIL.Image.open(tmp_path / "figures" / "0.png").width > 300 and (tmp_path / "film.gif").is_file()


@pytest.mark.slow
def test_the_shapes_are_evaluated_by_their_attributes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribute_report, "TRAVERSED", 2)
    monkeypatch.setattr(attribute_report, "EDITED", 2)
    options = (
        "--data",
        "cardiac_phantom",
        "--measure",
        "cardiac",
        "--spacing",
        1.25,
        "--sequences",
        20,
        "--output",
        tmp_path,
    )
    run("evaluate", "attributes", REPOSITORY, *options)
    metrics = {each["key"]: each["value"] for each in json.loads((tmp_path / "metrics.json").read_text())["metrics"]}
    assert metrics["scc"] > 0.95 and metrics["traversal_spearman_lv_area"] > 0.99


@pytest.fixture(scope="module")
def camus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_camus([51], tmp_path_factory.mktemp("camus") / "set", frames=9, half_cycle=True)


@pytest.fixture
def segmentations(camus_folder: Path, tmp_path: Path) -> Path:
    """Label maps of both views with errors, in a flat folder."""
    (tmp_path / "own").mkdir()
    for path in sorted(camus_folder.rglob("*_half_sequence_gt.nii.gz")):
        scan = read(path, modality="labels")
        corrupted, _ = corrupt_sequence(scan.array[0].transpose(2, 1, 0), 1.25, 2, 0.2)
        write(scan.like(corrupted.transpose(2, 1, 0)[None]), tmp_path / "own" / path.name.replace("_gt", "_pred"))
    return tmp_path / "own"


@pytest.mark.slow
def test_own_segmentations_are_compared_with_camus(camus_folder: Path, segmentations: Path, tmp_path: Path) -> None:
    (segmentations / "patient0099_4CH_pred.nii.gz").write_bytes(b"")
    out = tmp_path / "out"
    options = ("--data", camus_folder, "--segmentations", segmentations, "--output", out)
    result = run("evaluate", "temporal", REPOSITORY, *options)
    assert "published: DeepLabv3" in result.output and "measured: repair" in result.output
    assert "arXiv 2112.02102" in result.output and "not compared: patient0099_4CH_pred.nii.gz" in result.output
    report = json.loads((out / "metrics.json").read_text())
    metrics = {each["key"]: each for each in report["metrics"]}
    assert metrics["dice_as_segmented"]["value"] < 1 and metrics["dice_repair"]["n"] == 2
    assert metrics["stated_ef_error_repair"]["n"] == 1
    assert {each["dataset"] for each in metrics.values()} == {"CAMUS, all, own segmentations"}
    assert "DeepLab" not in json.dumps(report)
    assert (out / "film.gif").is_file()


@pytest.mark.slow
def test_segmentations_are_checked_before_any_work(camus_folder: Path, segmentations: Path, tmp_path: Path) -> None:
    (segmentations / "patient0051_2CH_half_sequence_pred.nii.gz").unlink()
    for options, message in (
        (
            ("--data", camus_folder),
            "no segmentation of 1 of 2 sequences (split 'all'): patient0051_2CH. It has patient0051",
        ),
        ((), "Got --segmentations with --data cardiac_phantom; expected the CAMUS folder that they segment"),
        (("--data", camus_folder, "--error-rate", 0.1), "Got --segmentations and --error-rate; expected one"),
    ):
        arguments = ["evaluate", "temporal", REPOSITORY, *options, "--segmentations", segmentations]
        result = CliRunner().invoke(app, [str(each) for each in (*arguments, "--output", tmp_path / "out")])
        assert result.exit_code and message in str(result.exception)
        assert not (tmp_path / "out").exists()
