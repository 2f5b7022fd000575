"""The record of what a repository was trained with: its content, its privacy, and that it is read again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import yaml

from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.hub.training_config import TRAINING_CONFIG, TrainingRecord, public_name, recorded_data
from meddiffusers.training import TrainingConfig

CHECKPOINTS = Path(__file__).parents[2] / "examples" / "checkpoints"


@dataclass
class Model:
    width: int = 3
    vae_name_or_path: str | None = None
    text_encoder_name_or_path: str = "somebody/bert"


def record(folder: Path, **model: str) -> TrainingRecord:
    data = LabelledDataConfig(dataset_name=str(folder), train_data_dir=str(folder), spacing=1.0, phantom_slices=7)
    return TrainingRecord.of(data, Model(**model), TrainingConfig(output_dir=str(folder / "out"), seed=4))


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = record(tmp_path)
    assert written.save(tmp_path / "run") == tmp_path / "run" / TRAINING_CONFIG
    assert TrainingRecord.read(tmp_path / "run") == written
    assert written.training["seed"] == 4 and written.model["width"] == 3
    assert recorded_data(tmp_path / "run")["phantom_slices"] == 7
    assert written.data.keys() == asdict(LabelledDataConfig()).keys() - {"train_data_dir"}


def test_local_paths_are_never_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "vae").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    text = record(tmp_path, vae_name_or_path="runs/vae").save(tmp_path).read_text()
    assert str(tmp_path.parent) not in text and "runs/" not in text
    settings = yaml.safe_load(text)
    assert settings["data"]["dataset_name"] == tmp_path.name
    assert settings["model"]["vae_name_or_path"] == "vae"
    assert settings["model"]["text_encoder_name_or_path"] == "somebody/bert"
    assert not {"output_dir", "resume_from_checkpoint"} & settings["training"].keys()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("owner/name", "owner/name"), ("/somewhere/else/scans", "scans"), ("../scans", "scans"), ("phantom", "phantom")],
)
def test_public_name(name: str, expected: str) -> None:
    assert public_name(name) == expected


def test_what_training_started_from_is_recorded_with_it(tmp_path: Path) -> None:
    first = record(tmp_path)
    first.save(tmp_path / "vae")
    second = record(tmp_path, vae_name_or_path=str(tmp_path / "vae"))
    second.save(tmp_path / "ldm")
    third = record(tmp_path, vae_name_or_path=str(tmp_path / "ldm"))
    assert second.started_from["vae_name_or_path"]["training"] == first.training
    assert third.started_from["vae_name_or_path"]["started_from"] == second.started_from


def test_a_repository_without_a_record(tmp_path: Path) -> None:
    assert TrainingRecord.read(tmp_path) is None
    assert recorded_data(tmp_path) == {}


@pytest.mark.parametrize("text", ["", "data: {}\n", "data: {}\nmodel: {}\ntraining: {}\nother: {}\n"])
def test_a_file_of_another_content_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / TRAINING_CONFIG).write_text(text)
    with pytest.raises(ValueError, match=r"training_config\.yaml holds .*; expected data, model and training"):
        TrainingRecord.read(tmp_path)


@pytest.mark.parametrize("folder", sorted(CHECKPOINTS.iterdir()), ids=lambda folder: folder.name)
def test_every_shipped_repository_has_one(folder: Path) -> None:
    record = TrainingRecord.read(folder)
    assert record is not None
    assert "runs/" not in (folder / TRAINING_CONFIG).read_text(encoding="utf-8")
    assert TrainingConfig(**record.training)
