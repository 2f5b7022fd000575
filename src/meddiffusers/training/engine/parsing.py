"""Parses the command line and a YAML file into configuration dataclasses.

The lines of the YAML file are put in front of the command line. Types, choices and ranges are thus checked in one way,
and options on the command line come later and override the file.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
import types
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, Union, cast, get_args, get_origin, get_type_hints

from transformers import HfArgumentParser

from meddiffusers.training.engine.batches import Division
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.utils.reading import read_yaml


class _Parser(HfArgumentParser):
    """The parser of transformers, whose errors name the YAML file that they are about."""

    source = "The command line"

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.source}: {message}\n")


def parse_config(*dataclass_types: type, argv: Sequence[str] | None = None) -> tuple[Any, ...]:
    """Parse the command line and the file in `--config FILE`.

    Args:
        dataclass_types: Configuration dataclasses.
        argv: Arguments; by default those of the command line.

    Returns:
        One instance of each dataclass.

    Raises:
        ValueError: A damaged file, an unknown key or option (the message has the nearest known name), or a value that
            its setting does not take; fewer training samples than one step takes, where settings alone say so.
        FileNotFoundError: The file does not exist.
        SystemExit: A value cannot be converted to the type of its setting; argparse prints the message.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    hints = {name: hint for kind in dataclass_types for name, hint in _hints(kind).items()}
    file = _config_file(arguments)
    settings = _read_settings(file, hints) if file else {}
    parser = _Parser(cast(Any, dataclass_types), allow_abbrev=False)
    for action in parser._actions:
        action.nargs = "*" if action.nargs == "+" else action.nargs  # a list may be empty
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings; the command line overrides it")
    parser.set_defaults(**{name: None for name, value in settings.items() if value is None})
    words = [word for name, value in settings.items() if value is not None for word in _as_words(name, value)]
    parser.source = str(file)
    parser.parse_known_args(words)
    parser.source = _Parser.source
    *configs, _, unknown = parser.parse_args_into_dataclasses(
        [*words, *arguments], return_remaining_strings=True, look_for_args_file=False
    )
    if unknown:
        names = [name.lstrip("-").split("=")[0] for name in unknown[:1]]
        raise ValueError(_unknown("The command line", names, list(hints)))
    _check_planned_samples(configs)
    return tuple(configs)


def _check_planned_samples(configs: Iterable[Any]) -> None:
    """Refuse too few training samples before any data are prepared, where a configuration plans their number."""
    steps = [config for config in configs if isinstance(config, TrainingConfig)]
    counts: list[int | None] = [getattr(config, "planned_train_samples", None) for config in configs]
    for planned in (count for count in counts if count is not None):
        for config in steps:
            Division(config.train_batch_size, config.gradient_accumulation_steps).check(planned)


def _hints(kind: type) -> dict[str, Any]:
    """The types of the settings of a configuration dataclass."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


def _config_file(arguments: list[str]) -> Path | None:
    first = ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", type=Path)
    return first.parse_known_args(arguments)[0].config


def _read_settings(file: Path, hints: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a YAML file, checked against the types of all settings."""
    settings = read_yaml(file)
    if not isinstance(settings, dict):
        held = "nothing" if settings is None else f"a {type(settings).__name__}"
        raise ValueError(f"{file} holds {held}; expected lines of 'name: value'.")
    unknown = [str(name) for name in settings if name not in hints]
    if unknown:
        raise ValueError(_unknown(str(file), unknown, list(hints)))
    wrong = [text for name, value in settings.items() if (text := _misfit(name, value, hints[name]))]
    if wrong:
        raise ValueError(f"{file}: " + "\n".join([*wrong, "Correct this in the file."]))
    return settings


def _misfit(name: str, value: Any, hint: Any) -> str | None:
    """Why a value of YAML is none for a setting; None if it may be one, which argparse and the dataclass then check."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if value is None:
        return None if type(None) in options else f"{name} is empty. Give it a value, or remove the line."
    (kind,) = [option for option in options if option is not type(None)][:1]
    if get_origin(kind) is list:
        parts, (kind,) = (value if isinstance(value, list) else [value]), get_args(kind)
    else:
        parts = [value]
    for part in parts:
        if isinstance(part, list | dict | None):
            return f"{name} is {value!r}; expected a single value, or a list of them where the setting is a list."
        if not isinstance(part, str) and (kind is str or get_origin(kind) is Literal):
            return f"{name} is {part!r}, which YAML does not read as text. Put it in quotes."
    return None


def _as_words(name: str, value: Any) -> list[str]:
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    return [f"--{name}={value}"]


def _unknown(place: str, names: Iterable[str], known: list[str]) -> str:
    hints = {name: difflib.get_close_matches(name, known, n=1) for name in names}
    listed = ", ".join(name + (f" (did you mean {near[0]}?)" if near else "") for name, near in hints.items())
    return f"{place} holds unknown settings: {listed}. --help lists the known ones."
