"""Settings: what is refused, and how command line and YAML file come together."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from meddiffusers.datasets.attribute_config import AttributeDataConfig
from meddiffusers.datasets.captioned_config import CaptionedDataConfig
from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.datasets.volume_config import VolumeDataConfig
from meddiffusers.training import TrainingConfig, parse_config


@dataclass
class ModelSettings:
    latent_dim: int = 16
    attributes: list[str] = field(default_factory=lambda: ["area"])
    shift: float = 0.0
    cached: bool = True


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"train_batch_size": 0}, "train_batch_size is 0; expected a whole number, at least 1."),
        ({"train_batch_size": 2.5}, "train_batch_size is 2.5; expected a whole number, at least 1."),
        ({"learning_rate": float("nan")}, "learning_rate is nan; expected a number, more than 0."),
        ({"adam_beta2": 1.0}, "adam_beta2 is 1.0; expected a number, at least 0 and less than 1."),
        ({"max_train_minutes": 0}, "max_train_minutes is 0; expected a number or nothing, more than 0."),
        ({"use_ema": 1}, "use_ema is 1; expected true or false."),
        ({"mixed_precision": "fp8"}, "mixed_precision is 'fp8'; expected one of no, fp16, bf16."),
        ({"report_to": "tensorbord"}, "report_to is 'tensorbord'; expected none, or one or several of tensorboard"),
        ({"push_to_hub": True}, "push_to_hub is set but hub_model_id is not; give --hub_model_id owner/name."),
    ],
)
def test_a_wrong_setting_is_refused(setting: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError) as error:
        TrainingConfig(**setting)
    assert expected in str(error.value)


def test_all_wrong_settings_are_listed_at_once() -> None:
    with pytest.raises(ValueError) as error:
        TrainingConfig(seed=-1, lr_scheduler="cosin", checkpointing_steps=0)
    listed, remedy = str(error.value).splitlines()[:-1], str(error.value).splitlines()[-1]
    assert [line.split()[0] for line in listed] == ["seed", "lr_scheduler", "checkpointing_steps"]
    assert "YAML" in remedy


def test_the_command_line_overrides_the_file_which_overrides_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "learning_rate: 1e-3\nuse_ema: true\ncached: false\nshift: -1\nmax_train_steps: 70\n"
        "attributes: [slant, width]\nresume_from_checkpoint:\nlr_scheduler: cosine\n"
    )
    argv = ["--config", str(file), "--max_train_steps", "80", "--latent-dim=4", "--use_ema", "false"]
    model, training = parse_config(ModelSettings, TrainingConfig, argv=argv)
    assert model == ModelSettings(latent_dim=4, attributes=["slant", "width"], shift=-1.0, cached=False)
    assert training == TrainingConfig(learning_rate=1e-3, max_train_steps=80, lr_scheduler="cosine")
    assert parse_config(TrainingConfig, argv=[]) == (TrainingConfig(),)


@pytest.mark.parametrize("text", ["trian_batch_size: 3\nlearning_rate: 1\n", "learning-rate: 1"])
def test_an_unknown_key_of_the_file_is_refused_with_the_nearest_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(
        ValueError, match=r"config.yaml holds unknown settings: \S+ \(did you mean (train_b|learning_r)"
    ):
        parse_config(TrainingConfig, argv=["--config", str(file)])


def test_an_unknown_option_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"command line holds unknown settings: use_emma \(did you mean use_ema\?\)"):
        parse_config(TrainingConfig, argv=["--use_emma"])


def test_a_file_that_is_no_table_and_a_value_of_the_wrong_type_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("- train_batch_size\n")
    with pytest.raises(ValueError, match=r"config.yaml holds a list; expected lines of 'name: value'"):
        parse_config(TrainingConfig, argv=["--config", str(file)])
    file.write_text("train_batch_size: many\n")
    with pytest.raises(SystemExit) as ended:
        parse_config(TrainingConfig, argv=["--config", str(file)])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"{file}: ") and "--train-batch-size: invalid int value: 'many'" in error
    with pytest.raises(SystemExit):
        parse_config(TrainingConfig, argv=["--train_batch_size", "many"])
    assert capsys.readouterr().err.startswith("The command line: argument --train_batch_size/")


@dataclass
class NullableSettings:
    head_dim: int | None = 32
    name: str | None = None
    precision: Literal["no", "bf16"] = "no"
    sizes: list[int] = field(default_factory=lambda: [1])


def test_null_sets_nothing_rather_than_the_default(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("head_dim: null\n")
    assert parse_config(NullableSettings, argv=["--config", str(file)])[0].head_dim is None
    given = ["--config", str(file), "--head_dim", "8"]
    assert parse_config(NullableSettings, argv=given)[0].head_dim == 8


DAMAGED = {
    "": "holds nothing; expected lines of 'name: value'",
    "# only a comment": "holds nothing",
    "head_dim": "holds a str",
    "head_dim: 8\nhead_dim: 16": r"is not valid YAML \(line 2: the key head_dim occurs twice\)",
    "a: &a [1]\nsizes: *a": r"is not valid YAML \(line 2: aliases",
    "head_dim: [8": "is not valid YAML",
    "\thead_dim: 8": "is not valid YAML",
    "? [head_dim]\n: 8": "is not valid YAML",
    "head_dim: !!python/name:os.system": "is not valid YAML",
    "head_dim: {a: 8}": r"head_dim is \{'a': 8\}; expected a single value",
    "head_dim: [8]": r"head_dim is \[8\]; expected a single value",
    "sizes: [[1]]": r"sizes is \[\[1\]\]; expected a single value",
    "sizes: [1, null]": "sizes is .*; expected a single value",
    "sizes:": "sizes is empty. Give it a value, or remove the line",
    "name: no": "name is False, which YAML does not read as text. Put it in quotes",
    "name: 0123": "name is 83, which YAML does not read as text",
    "name: 2020-01-01": "which YAML does not read as text",
    "precision: no": "precision is False, which YAML does not read as text",
    "1: 2": "holds unknown settings: 1",
}


@pytest.mark.parametrize(("text", "message"), DAMAGED.items())
def test_a_damaged_file_is_named_with_its_cause(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=f"config.yaml.*{message}"):
        parse_config(NullableSettings, argv=["--config", str(tmp_path / "config.yaml")])


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, message in {"pipe": "is a pipe", ".": "is a folder", "binary": "is not text"}.items():
        with pytest.raises(ValueError, match=message):
            parse_config(NullableSettings, argv=["--config", str(tmp_path / name)])
    with pytest.raises(FileNotFoundError, match="absent"):
        parse_config(NullableSettings, argv=["--config", str(tmp_path / "absent")])


@dataclass
class PlannedData:
    images: int | None = None

    @property
    def planned_train_samples(self) -> int | None:
        return self.images


def test_fewer_samples_than_a_step_are_refused_before_data_are_prepared() -> None:
    step = ["--train_batch_size", "4", "--gradient_accumulation_steps", "3"]
    parse_config(PlannedData, TrainingConfig, argv=[*step, "--images", "12"])
    parse_config(PlannedData, TrainingConfig, argv=step)
    with pytest.raises(
        ValueError, match=r"data set has 11 samples, but one optimiser step takes 12 \(train_batch_size 4 "
    ):
        parse_config(PlannedData, TrainingConfig, argv=[*step, "--images", "11"])


@pytest.mark.parametrize(
    ("config", "planned"),
    [
        (LabelledDataConfig(phantom_slices=10), 10),
        (LabelledDataConfig(phantom_slices=10, max_train_samples=3), 3),
        (LabelledDataConfig(phantom_slices=10, foreground_share=0.5), None),
        (LabelledDataConfig("folder"), None),
        (CaptionedDataConfig(phantom_slices=10, phantom_modalities=["t1", "t2"]), 20),
        (VolumeDataConfig(phantom_volumes=10), 10),
        (AttributeDataConfig(max_train_samples=7), 7),
        (AttributeDataConfig(), None),
    ],
)
def test_data_plan_their_training_samples(config: Any, planned: int | None) -> None:
    assert config.planned_train_samples == planned
