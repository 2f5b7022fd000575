"""Check the keys and values of configurations against the constructors that take them.

diffusers ignores keys that it does not know, and uses defaults for those that it misses: a schedule of other betas, a
range of other intensities.
"""

from __future__ import annotations

import codecs
import difflib
import inspect
import logging
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import diffusers
import numpy as np
import transformers
from accelerate import init_empty_weights
from diffusers.configuration_utils import ConfigMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from meddiffusers.utils.reading import FileContentError, read_json

MAX_TRAIN_TIMESTEPS = 1_000_000  # schedulers keep several numbers for each
MAX_NUMBER, MAX_LAYERS = 100_000_000, 1000  # in the configuration of a network
_COUNTS = re.compile("layers|num_res|fourier|frequencies|depth|blocks$")
_NAMES = ("_class_name", "_diffusers_version")


def config_file(cls: type) -> str:
    """Name of the configuration file of a component's class."""
    return str(cls.config_name) if issubclass(cls, ConfigMixin) and cls.config_name else "config.json"


def config_keys(cls: type) -> set[str]:
    """The keys that the configuration of a diffusers or transformers class has."""
    if issubclass(cls, ConfigMixin):
        return set(_parameters(cls)) | _compatible_keys(cls)
    config = getattr(cls, "config_class", None)
    return set(config().to_dict()) if config is not None else set()


def build(config: Mapping[str, Any], cls: Any) -> Any:
    """An instance of a diffusers class without memory for weights, from the keys that its constructor takes."""
    taken = {key: value for key, value in config.items() if key in config_keys(cls) or key in _NAMES}
    with quiet(), init_empty_weights():
        return cls.from_config(taken)


def missing_key_issues(file: str, config: Mapping[str, Any], cls: type, required: Sequence[str] = ()) -> list[str]:
    """Keys that are missing though the version of diffusers that wrote the configuration is this one.

    Args:
        file: Name of the configuration.
        config: Its content.
        cls: The class that is configured.
        required: Keys that are checked elsewhere.
    """
    issues = []
    if config.get("_diffusers_version") == diffusers.__version__:
        expected = set(_parameters(cls)) - set(getattr(cls, "ignore_for_config", ()))
        missing = sorted(expected - set(config) - set(required))
        issues += [
            f"{file} lacks {key!r}, which {cls.__name__} would take from its defaults. Restore it." for key in missing
        ]
    return issues


def unknown_key_issues(file: str, keys: Sequence[str], known: set[str], class_name: str) -> list[str]:
    """Keys that a class does not take; diffusers would ignore them."""
    issues = []
    for key in sorted(set(keys) - known):
        if not key.startswith("_") and key != "quantization_config":
            close = difflib.get_close_matches(key, known, n=1)
            advice = f"Did you mean {close[0]!r}?" if close else "Remove it, or install the version that wrote it."
            issues.append(f"{file} has a key {key!r}, which {class_name} does not take. {advice}")
    return issues


def value_issues(file: str, config: Mapping[str, Any], cls: type) -> list[str]:
    """Values that are none for the constructor's annotations, such as text for a number.

    Args:
        file: Name of the configuration.
        config: Its content.
        cls: A class of diffusers or of this project.
    """
    try:
        hints = get_type_hints(cls.__init__)  # type: ignore[misc]
    except (NameError, TypeError):
        hints = {}
    wrong = {name: str for name in _NAMES if not isinstance(config.get(name, ""), str)}
    for key, parameter in _parameters(cls).items():
        if key in config and config[key] != parameter.default:
            hint = hints.get(key, Any)
            is_list = isinstance(config[key], list) and hint in (int, float)  # which only networks take
            if not _fits(config[key], hint) or (is_list and issubclass(cls, SchedulerMixin)):
                wrong[key] = hint
    issues = [
        f"{file} has {key} as {config[key]!r}; expected {_text(hint)}. Restore it." for key, hint in wrong.items()
    ]
    steps = config.get("num_train_timesteps")
    if issubclass(cls, SchedulerMixin) and isinstance(steps, int) and not 0 < steps <= MAX_TRAIN_TIMESTEPS:
        issues.append(f"{file} has num_train_timesteps as {steps}; expected 1 to {MAX_TRAIN_TIMESTEPS}. Restore it.")
    return issues


def read_configuration(path: Path) -> dict[str, Any]:
    """Read a JSON file as diffusers and transformers do, which take no byte order mark.

    Raises:
        FileNotFoundError: There is no such file.
        FileContentError: It is damaged, or begins with such a mark.
    """
    content = read_json(path)
    with path.open("rb") as file:
        if file.read(3) == codecs.BOM_UTF8:
            raise FileContentError(path, "begins with a byte order mark. Save it as UTF-8 without one.")
    return content


@contextmanager
def quiet() -> Iterator[None]:
    """Context without the warnings of diffusers and transformers, whose causes are reported as issues."""
    loggers = [logging.getLogger(name) for name in (diffusers.__name__, transformers.__name__)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def size_issues(file: str, config: Any, key: str = "") -> list[str]:
    """Whole numbers so large that building the network would not end."""
    if isinstance(config, dict):
        return [issue for name, value in config.items() for issue in size_issues(file, value, str(name))]
    if isinstance(config, list):
        return [issue for value in config for issue in size_issues(file, value, key)]
    most = MAX_LAYERS if _COUNTS.search(key) else MAX_NUMBER
    if isinstance(config, int) and config > most:
        return [f"{file} has {key} as {config}; expected at most {most}. Restore it."]
    return []


def _parameters(cls: Any) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(cls.__init__).parameters
    return {name: each for name, each in parameters.items() if name != "self" and each.kind is not each.VAR_KEYWORD}


def _compatible_keys(cls: Any) -> set[str]:
    """Keys of the schedulers that a scheduler's configuration may come from."""
    kinds = cls._get_compatibles() if getattr(cls, "has_compatibles", False) else []
    return {key for kind in kinds if isinstance(kind, type) for key in inspect.signature(kind).parameters}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of JSON is one for an annotation. Networks take lists where a number is annotated, too."""
    origin, arguments = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin is Literal:
        return value in arguments
    if origin in (int, float):
        if isinstance(value, list):
            return bool(value) and all(_fits(each, hint) for each in value)
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return not isinstance(value, bool) and (whole or (origin is float and isinstance(value, float)))
    if origin in (str, bool, type(None)):
        return isinstance(value, origin)
    if origin is np.ndarray:
        return isinstance(value, list)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, dict) and all(_fits(each, (*arguments, Any, Any)[1]) for each in value.values())
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, list) and _parts_fit(value, [each for each in arguments if each is not Ellipsis])
    return True


def _parts_fit(values: list[Any], hints: Sequence[Any]) -> bool:
    """Whether the parts of a list fit; one annotation is for all, several are for one each."""
    if len(hints) == len(values) > 1:
        return all(_fits(value, hint) for value, hint in zip(values, hints, strict=True))
    return len(hints) != 1 or all(_fits(value, hints[0]) for value in values)


def _text(hint: Any) -> str:
    """An annotation in words."""
    origin, arguments = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_text(option) for option in arguments))
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    if isinstance(origin, type) and origin not in names:
        return "an object" if issubclass(origin, Mapping) else "a list"
    return names.get(origin, "another value")
