"""Fields of configuration dataclasses: help texts, and validation of types and ranges.

`HfArgumentParser` passes every key of a field's metadata to argparse, so ranges are kept in a table beside the class.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Range:
    """Interval of numbers from `low` to `high`; open ends are excluded."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        low = f"{'more than' if self.open_low else 'at least'} {self.low:g}"
        if self.high == math.inf:
            return low
        return f"{low} and {'less than' if self.open_high else 'at most'} {self.high:g}"


def setting(default: Any, help: str) -> Any:
    """Dataclass field with a default and its `--help` text."""
    return dataclasses.field(default=default, metadata={"help": help})


def list_setting(default: list[Any], help: str) -> Any:
    """Dataclass field with a list as default, copied for each instance."""
    return dataclasses.field(default_factory=lambda: list(default), metadata={"help": help})


def fewest(*counts: int | None) -> int | None:
    """The smallest of the counts that are known; None if none is."""
    return min((count for count in counts if count is not None), default=None)


def check_fields(config: Any, ranges: Mapping[str, Range]) -> None:
    """Raise one ValueError that lists every field of the dataclass `config` with a wrong type or out of its range."""
    hints = get_type_hints(type(config))
    problems = []
    for field in dataclasses.fields(config):
        value, kind, bounds = getattr(config, field.name), hints[field.name], ranges.get(field.name)
        if not _fits(value, kind) or (bounds is not None and value is not None and value not in bounds):
            expected = f"{_describe(kind)}{f', {bounds}' if bounds else ''}"
            problems.append(f"{field.name} is {value!r}; expected {expected}.")
    if problems:
        raise ValueError("\n".join([*problems, "Correct this on the command line (--NAME VALUE) or in the YAML file."]))


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(kind))
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, get_origin(kind) or kind)


def _describe(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_describe(option) for option in get_args(kind))
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "nothing"}
    return names.get(kind, str(kind))
