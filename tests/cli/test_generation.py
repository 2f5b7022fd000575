"""`meddiffusers generate`: a table in, a data set out; several processes; what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import datasets
import nibabel
import numpy as np
import pytest
from helpers.small_latent_diffusion import of_images, of_volumes
from typer.testing import CliRunner, Result

from meddiffusers.cli import app

FEW = ("--num-inference-steps", 1, "--shard-size", 2, "--batch-size", 2)


def run(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], terminal_width=200)
    assert result.exit_code == status, result.output
    return result


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ldm") / "brains"
    of_volumes(spacing=2.0).save_pretrained(folder)
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    ages, sexes = rng.uniform(25, 75, 40), rng.choice(["F", "M"], 40)
    lines = [f"{age:.1f},{sex},x" for age, sex in zip(ages, sexes, strict=True)]
    path = tmp_path / "people.csv"
    path.write_text("age,sex,note\n" + "\n".join(lines) + "\n")
    return path


def read(folder: Path, cache: Path) -> datasets.Dataset:
    return datasets.load_dataset(str(folder), split="train", cache_dir=str(cache))


def test_a_data_set_of_people_like_those_of_a_table(repository: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("generate", repository, "--out", out, "--n", 5, "--covariates", table, *FEW)
    data = read(out, tmp_path / "cache")
    assert len(data) == 5 and all(25 <= age <= 75 for age in data["age"])
    assert data[0]["image"].shape == (8, 12, 8)
    assert "5 samples that the model `brains` has drawn" in (out / "README.md").read_text()
    before = {path: path.stat().st_mtime_ns for path in (out / "data").iterdir()}
    run("generate", repository, "--out", out, "--n", 5, "--covariates", table, *FEW)  # all is there
    assert before == {path: path.stat().st_mtime_ns for path in (out / "data").iterdir()}


def test_rows_of_a_table_one_by_one(repository: Path, table: Path, tmp_path: Path) -> None:
    run("generate", repository, "--out", tmp_path / "out", "--n", 3, "--covariates", table, "--as-rows", *FEW)
    lines = table.read_text().splitlines()[1:4]
    found = read(tmp_path / "out", tmp_path / "cache")
    assert [f"{row['age']:.1f},{row['sex']},x" for row in found.remove_columns("image")] == lines


def test_processes_share_the_work(repository: Path, tmp_path: Path) -> None:
    run("generate", repository, "--out", tmp_path / "one", "--n", 6, *FEW)
    arguments = ["generate", repository, "--out", tmp_path / "two", "--n", 6, *FEW]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "--"]
    command = [*launch, "meddiffusers.cli", *map(str, arguments)]
    done = subprocess.run(command, check=True, timeout=120, capture_output=True, text=True)
    assert done.stdout.count("The data set is in") == 1  # of the first; processes that work alone say it each
    for path in sorted((tmp_path / "one").rglob("*.parquet")):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_images_of_label_maps_come_with_them(tmp_path: Path) -> None:
    of_images(spacing=2.0).save_pretrained(tmp_path / "images")
    (tmp_path / "maps").mkdir()
    volume = np.zeros((8, 8, 3), np.uint8)
    volume[2:4, 3:6, 1], volume[5, 5, 2] = 1, 4
    nibabel.Nifti1Image(volume, np.diag([2.0, 2.0, 5.0, 1.0])).to_filename(tmp_path / "maps" / "one.nii.gz")
    arguments = ("generate", tmp_path / "images", "--out", tmp_path / "out", "--masks", tmp_path / "maps")
    run(*arguments, "--n", 3, *FEW)
    data = read(tmp_path / "out", tmp_path / "cache")
    assert [int(row["mask"].get_fdata().sum()) for row in data] == [6, 4, 6]  # two slices show a label; then the first
    assert data[0]["image"].shape == (8, 8, 1, 2)


def test_what_cannot_be_is_refused(repository: Path, table: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("height\n3\n")
    said = run("generate", repository, "--out", tmp_path / "out", "--covariates", tmp_path / "other.csv", status=1)
    assert "says nothing of age, sex" in str(said.exception)
    (tmp_path / "old.csv").write_text("age,sex\n" + "30,F\n" * 20 + "95,M\n")
    arguments = ("generate", repository, "--out", tmp_path / "out", "--n", 21, "--covariates", tmp_path / "old.csv")
    said = run(*arguments, "--as-rows", status=1)
    assert "is outside 20 to 80" in str(said.exception)
    assert not (tmp_path / "out").exists()
    of_images().save_pretrained(tmp_path / "images")
    said = run("generate", tmp_path / "images", "--out", tmp_path / "out", "--covariates", table, status=1)
    assert "is told no covariates" in str(said.exception)
    said = run("generate", repository, "--out", tmp_path / "out", "--masks", tmp_path, status=1)
    assert "is told no label maps; leave --masks out" in str(said.exception)
