"""`training_config.yaml`: the settings of data, model and training that a repository was trained with.

    data:          the data set's settings, so that an evaluation can build the same held-out data
    model:         the model's and the loss's settings
    training:      the settings of the run: seed, batch size, learning rate …
    started_from:  the same of each model that the training started from, by the setting that named it

Local paths are never published: of a folder only the name is kept, and settings that hold nothing but a path are left
out, as are those of trackers and of the Hub.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from meddiffusers.hub.load import local_folder
from meddiffusers.utils.atomic import write_text
from meddiffusers.utils.reading import read_yaml

TRAINING_CONFIG = "training_config.yaml"
PATHS = ("output_dir", "resume_from_checkpoint", "train_data_dir", "table")
REPORTING = ("report_to", "tracker_project_name", "push_to_hub", "hub_model_id", "hub_private_repo")
NAMES = ("dataset_name", "_name_or_path")  # endings of settings that hold a Hub id or a path
HEADER = "# The settings that this model was trained with. Training writes this file.\n"


@dataclass(frozen=True)
class TrainingRecord:
    """What `training_config.yaml` holds."""

    data: Mapping[str, Any]
    model: Mapping[str, Any]
    training: Mapping[str, Any]
    started_from: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Any, model: Any, training: Any) -> TrainingRecord:
        """The record of a run from its three configuration dataclasses."""
        settings = dataclasses.asdict(model)
        records = {name: _record_beside(value) for name, value in settings.items() if name.endswith(NAMES)}
        return cls(
            _published(dataclasses.asdict(data)),
            _published(settings),
            _published(dataclasses.asdict(training)),
            {name: record for name, record in records.items() if record},
        )

    def save(self, folder: Path) -> Path:
        """Write the file into a folder, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / TRAINING_CONFIG, self.to_yaml())
        return folder / TRAINING_CONFIG

    def sections(self) -> dict[str, Any]:
        """The sections of the file that hold anything."""
        return {name: section for name, section in dataclasses.asdict(self).items() if section}

    def to_yaml(self) -> str:
        """The text of the file."""
        return HEADER + yaml.safe_dump(self.sections(), sort_keys=False, allow_unicode=True)

    @classmethod
    def read(cls, folder: Path) -> TrainingRecord | None:
        """The record in a folder; None without the file.

        Raises:
            ValueError: the file holds anything but these sections.
        """
        file = folder / TRAINING_CONFIG
        if not file.is_file():
            return None
        content = read_yaml(file)
        _check_record(content, file)
        return cls(**content)


def recorded_data(repository: str | Path, revision: str | None = None) -> dict[str, Any]:
    """The data settings that a repository was trained with; empty where it does not record them.

    Raises:
        RepositoryError: there is no such repository or revision.
    """
    record = TrainingRecord.read(local_folder(repository, revision=revision))
    return dict(record.data) if record else {}


def public_name(name: str) -> str:
    """A Hub id as it is; of a local path the name of its last part."""
    path = Path(name).expanduser()
    is_local = path.exists() or path.is_absolute() or name.startswith(".")
    return path.resolve().name if is_local else name


def _record_beside(name: str | None) -> dict[str, Any] | None:
    """The record of a local repository that training started from."""
    record = TrainingRecord.read(Path(name)) if name else None
    return {key: value for key, value in dataclasses.asdict(record).items() if value} if record else None


def _check_record(content: Any, file: Path) -> None:
    """Raise a ValueError unless the content of a file is that of a record, down to what the training started from."""
    expected = {"data", "model", "training"}
    names = set(content) if isinstance(content, dict) else set()
    if not expected <= names <= {*expected, "started_from"}:
        held = ", ".join(sorted(map(str, names))) or "no sections"
        raise ValueError(f"{file} holds {held}; expected data, model and training.")
    if wrong := [name for name, section in content.items() if not isinstance(section, dict)]:
        raise ValueError(f"{file} has no names and values in {', '.join(wrong)}. Restore it.")
    for record in content.get("started_from", {}).values():
        _check_record(record, file)


def _published(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: public_name(value) if value and name.endswith(NAMES) else value
        for name, value in settings.items()
        if name not in (*PATHS, *REPORTING)
    }
