"""Settings: what is refused, and how command line and YAML file come together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

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
    with pytest.raises(SystemExit):
        parse_config(TrainingConfig, argv=["--config", str(file)])
    assert "--train-batch-size: invalid int value: 'many'" in capsys.readouterr().err
