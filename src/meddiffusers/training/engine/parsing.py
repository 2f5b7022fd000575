"""Parses the command line and a YAML file into configuration dataclasses.

The lines of the YAML file are put in front of the command line. Types, choices and ranges are thus checked in one way,
and options on the command line come later and override the file.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from transformers import HfArgumentParser


def parse_config(*dataclass_types: type, argv: Sequence[str] | None = None) -> tuple[Any, ...]:
    """Parse the command line and the file in `--config FILE`.

    Args:
        dataclass_types: Configuration dataclasses.
        argv: Arguments; by default those of the command line.

    Returns:
        One instance of each dataclass.

    Raises:
        ValueError: An unknown key or option; the message has the nearest known name.
        FileNotFoundError: The file does not exist.
        SystemExit: A value has the wrong type; argparse prints the message.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    known = [field.name for kind in dataclass_types for field in dataclasses.fields(kind) if field.init]
    file = _config_file(arguments)
    parser = HfArgumentParser(cast(Any, dataclass_types), allow_abbrev=False)
    for action in parser._actions:
        action.nargs = "*" if action.nargs == "+" else action.nargs  # a list may be empty
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings; the command line overrides it")
    *configs, _, unknown = parser.parse_args_into_dataclasses(
        [*(_yaml_arguments(file, known) if file else []), *arguments],
        return_remaining_strings=True,
        look_for_args_file=False,
    )
    if unknown:
        raise ValueError(_unknown("The command line", [name.lstrip("-").split("=")[0] for name in unknown[:1]], known))
    return tuple(configs)


def _config_file(arguments: list[str]) -> Path | None:
    first = ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", type=Path)
    return first.parse_known_args(arguments)[0].config


def _yaml_arguments(file: Path, known: list[str]) -> list[str]:
    settings = yaml.safe_load(file.read_text()) or {}
    if not isinstance(settings, dict):
        raise ValueError(f"{file} holds a {type(settings).__name__}; expected lines of 'name: value'.")
    unknown = [str(key) for key in settings if key not in known]
    if unknown:
        raise ValueError(_unknown(str(file), unknown, known))
    return [word for key, value in settings.items() if value is not None for word in _as_words(key, value)]


def _as_words(key: str, value: Any) -> list[str]:
    if isinstance(value, list):
        return [f"--{key}", *map(str, value)]
    return [f"--{key}={value}"]


def _unknown(place: str, names: Iterable[str], known: list[str]) -> str:
    hints = {name: difflib.get_close_matches(name, known, n=1) for name in names}
    listed = ", ".join(name + (f" (did you mean {near[0]}?)" if near else "") for name, near in hints.items())
    return f"{place} holds unknown settings: {listed}. --help lists the known ones."
