"""Check that configurations, metrics and tokenizers hold what their class writes, and tell of no person."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from types import NoneType
from typing import Any

import diffusers
from diffusers.configuration_utils import ConfigMixin
from tokenizers import Tokenizer

from meddiffusers.evaluation.report import read_metrics
from meddiffusers.hub.checks import INDEX, components, pipeline_class
from meddiffusers.hub.components import component_class
from meddiffusers.hub.configurations import build, config_file, config_keys
from meddiffusers.hub.identifiers import given_away, given_away_by_settings
from meddiffusers.hub.training_config import PATHS, REPORTING, TrainingRecord
from meddiffusers.hub.versions import VERSION
from meddiffusers.hub.vocabulary import known_modules, texts_in, unknown_words, without_model_numbers
from meddiffusers.hub.weights import shapes_of
from meddiffusers.utils.reading import FileContentError, read_json, read_text
from meddiffusers.utils.text import some_of

_OWN = {"_class_name", "_diffusers_version", "_name_or_path", "_use_default_values"}  # keys that diffusers adds
_TRANSFORMERS = {"architectures", "model_type", "transformers_version", "dtype", "torch_dtype", "_name_or_path"}
_RUN = {"seed", "seeds", "hardware", "training_minutes"}
_TOKENIZER = re.compile(
    r"added_tokens_decoder|additional_special_tokens|add_bos_token|add_eos_token|add_prefix_space|backend|"
    r"bos_token|clean_up_tokenization_spaces|cls_token|do_basic_tokenize|do_lower_case|eos_token|errors|"
    r"extra_ids|extra_special_tokens|is_local|legacy|mask_token|max_length|model_input_names|"
    r"model_max_length|model_specific_special_tokens|never_split|pad_to_multiple_of|pad_token|"
    r"pad_token_type_id|padding_side|processor_class|sep_token|spaces_between_special_tokens|"
    r"split_special_tokens|stride|strip_accents|tokenize_chinese_chars|tokenizer_class|truncation_side|"
    r"truncation_strategy|unk_token|use_fast|_name_or_path"
)
_SETTING = re.compile(r"^    (\w+): [^=]+ = (?:list_)?setting\(", re.MULTILINE)
_MAX_TOKEN = 256  # characters
_SPECIAL = "startoftext endoftext unused extra sentinel assistant system user always first never removed isolated"
_WORDS = re.compile(r"\w\W*\s+\W*\w|(?<![\d.])\d{6,}")  # several in one token, or a long number


def index_content_issues(path: Path) -> list[str]:
    """Check the keys and texts of a model_index.json."""
    index = read_json(path)
    cls: Any = pipeline_class(index)
    if cls is None:
        return ["names a pipeline of no installed library, so that its settings cannot be checked."]
    required, optional = cls._get_signature_keys(cls)
    given = {name: entry for name, entry in index.items() if entry != [None, None]}
    return _key_issues(given, {*required, *optional, *_OWN})


def config_content_issues(path: Path) -> list[str]:
    """Check the keys and texts of a component's configuration."""
    config = read_json(path)
    cls = _configured_class(path, config)
    if cls is None or path.name != config_file(cls):
        return ["is the configuration of no component, so that its settings cannot be checked. Remove it."]
    known = config_keys(cls)
    if issubclass(cls, ConfigMixin) and not set(config) <= known | _OWN:  # some constructors add keys of their own
        with suppress(Exception):  # what cannot be built is an issue of its own
            known |= set(build(config, cls).config)
    return _key_issues(config, known | _OWN | _TRANSFORMERS)


def tokenizer_settings_issues(path: Path) -> list[str]:
    """Check the keys and texts of a tokenizer's settings, which are tokens by name in `added_tokens.json`."""
    settings = read_json(path)
    if path.name == "added_tokens.json":
        return token_issues(settings)
    issues = _key_issues(settings, {name for name in settings if _TOKENIZER.fullmatch(name)})
    values = [value for name, value in settings.items() if name.endswith(("_token", "_tokens"))]
    decoder = settings.get("added_tokens_decoder", {})
    added = [each.get("content", "") for each in decoder.values() if isinstance(each, dict)]
    return issues + token_issues(texts_in([*values, decoder])) + _special_token_issues(texts_in([*values, added]))


def tokenizer_content_issues(path: Path) -> list[str]:
    """Check that a tokenizer's file holds tokens, and for `tokenizer.json` nothing that its library does not write."""
    if path.name != "tokenizer.json":
        return token_issues(read_json(path) if path.suffix == ".json" else _lines(path))
    text = read_text(path)
    try:
        written = json.loads(Tokenizer.from_str(text).to_str())
    except Exception as error:  # the library raises nothing more precise
        raise FileContentError(path, f"is no tokenizer ({error}). Fetch it again.") from error
    content = read_json(path)
    if written != content:
        return ["holds more than a tokenizer. Load the tokenizer and save it again."]
    rest = {**content, "model": {**content["model"], "vocab": None, "merges": None}}
    told = dict.fromkeys(what for each in texts_in(rest) for what in given_away(each))
    issues = [f"has {what}. Remove it." for what in told]
    added = [each["content"] for each in content["added_tokens"]]
    parts = (content[name] for name in ("normalizer", "pre_tokenizer", "decoder"))
    texts = [*added, content["model"].get("continuing_subword_prefix"), *(_free_texts(part) for part in parts)]
    return (
        issues + token_issues([*Tokenizer.from_str(text).get_vocab(), *added]) + _special_token_issues(texts_in(texts))
    )


def token_issues(tokens: Iterable[str]) -> list[str]:
    """Check that tokens are parts of words, as tokenizers make them, and tell of no person."""
    for token in tokens:
        if len(token) > _MAX_TOKEN:
            return [f"has the token {token[:40]!r}…, longer than {_MAX_TOKEN} characters. Remove it."]
        if _WORDS.search(token):
            return [f"has the token {token[:60]!r}, which is no part of a word. Remove it."]
        if any(char in token for char in "^@.:/-0123456789") and (told := set(given_away(token)) - {"a local path"}):
            return [f"has the token {token[:60]!r}, which is {min(told)}. Remove it."]
    return []


def _special_token_issues(tokens: Iterable[str]) -> list[str]:
    """Check that tokens such as [PAD], and the texts that a tokenizer replaces, have known words."""
    unknown = [word for word in unknown_words(list(tokens), (_SPECIAL,)) if len(word) > 3]
    return [f"has {unknown[0]!r} in a special token, which could name a person. Remove it."] if unknown else []


def _free_texts(content: Any) -> Any:
    """A part of a tokenizer without the names of its settings and their kinds."""
    if isinstance(content, dict):
        return [_free_texts(value) for name, value in content.items() if name != "type"]
    return [_free_texts(value) for value in content] if isinstance(content, list) else content


def _lines(path: Path) -> list[str]:
    """The tokens in a list of them, or of pairs that are merged, below a line with its version."""
    lines = read_text(path).splitlines()
    if path.name == "merges.txt":
        return [token for line in lines if not line.startswith("#version") for token in line.split(" ", 1)]
    return lines


def metrics_content_issues(path: Path) -> list[str]:
    """Check that `metrics.json` is a report, whose texts tell of no person."""
    content = read_metrics(path.parent)
    unknown = set(content["run"]) - _RUN
    issues = [f"has {name!r} in run, expected {', '.join(sorted(_RUN))}. Remove it." for name in sorted(unknown)]
    texts = {**content, "figures": list(content["figures"])}
    run = content["run"]
    numbers = [run.get("seed", 0), run.get("training_minutes", 0), *run.get("seeds", [])]
    if {type(number) for number in numbers} - {int, float, NoneType}:
        issues.append("has a seed or a time in run that is no number. Restore it.")
    if wrong := [name for name in content["figures"].values() if not re.fullmatch(r"figures/\d+\.png", name)]:
        issues.append(f"names the figure {wrong[0]}, expected figures/NUMBER.png. Restore it.")
    return issues + [f"has {what}. Remove it." for what in given_away_by_settings(texts)]


def training_config_content_issues(path: Path) -> list[str]:
    """Check that `training_config.yaml` holds settings, no comments, and no paths."""
    record = TrainingRecord.read(path.parent)
    if record is None or read_text(path) != record.to_yaml():
        return ["is not as training writes it; comments could hold anything. Read it as TrainingRecord and save it."]
    return _record_issues(record.sections())


def word_issues(path: Path, names: Collection[str]) -> list[str]:
    """Check that names in settings have known words.

    Args:
        path: A configuration, weights, `metrics.json` or `training_config.yaml`, which passed the other checks.
        names: Names that whoever publishes confirms.
    """
    if path.name == "training_config.yaml":
        record = TrainingRecord.read(path.parent)
        content: Any = _recorded_values(record.sections()) if record else None
    elif path.name == "metrics.json":
        report = read_metrics(path.parent)
        hardware = without_model_numbers(str(report["run"].get("hardware", "")))
        content = {**report, "run": hardware, "figures": list(report["figures"])}
    elif path.suffix == ".safetensors":
        content = [part for name in shapes_of(path) for part in name.split(".") if part not in known_modules()]
    else:
        skipped = _OWN | {"transformers_version", "added_tokens_decoder"}
        settings = {name: value for name, value in read_json(path).items() if name not in skipped}
        content = [value for name, value in settings.items() if not name.endswith(("_token", "_tokens"))]
    unknown = unknown_words(content, names)
    if not unknown:
        return []
    return [
        f"holds {some_of(map(repr, unknown))}, which could name a person: no known word of anatomy, imaging or "
        "computers. If none tells of a person or a place, confirm them with names=[…] (--name); otherwise remove them."
    ]


def _recorded_values(sections: dict[str, Any]) -> list[Any]:
    """The values of a training record's settings, without the settings' names, which are checked on their own."""
    others = [_recorded_values(record) for record in sections.get("started_from", {}).values()]
    return [
        value for name, section in sections.items() if name != "started_from" for value in section.values()
    ] + others


def known_settings() -> set[str]:
    """Names of the settings that the package's configuration dataclasses have, read from their code."""
    package = files("meddiffusers")
    folders = [Path(str(package.joinpath(name))) for name in ("datasets", "training")]
    codes = [path.read_text(encoding="utf-8") for folder in folders for path in sorted(folder.rglob("*.py"))]
    return {name for code in codes for name in _SETTING.findall(code)}


def _record_issues(sections: dict[str, Any]) -> list[str]:
    known = known_settings() - {*PATHS, *REPORTING}
    issues = []
    for name, section in sections.items():
        if name == "started_from":
            issues += [issue for each in section.values() for issue in _record_issues(each)]
        else:
            issues += _key_issues(section, known)
    return issues


def _configured_class(path: Path, config: dict[str, Any]) -> type | None:
    """The class of the component in the folder of a configuration, or of a component that is a repository."""
    index = path.parent.with_name(INDEX) if (path.parent.with_name(INDEX)).is_file() else None
    if index is None or (path.parent / INDEX).is_file():
        return component_class("diffusers", str(config.get("_class_name")))
    entry = components(read_json(index)).get(path.parent.name)
    return component_class(*entry) if entry else None


def _key_issues(settings: dict[str, Any], known: set[str]) -> list[str]:
    unknown = sorted(str(name) for name in settings if name not in known)
    issues = [f"has a setting {name!r}, which its class does not have. Remove it." for name in unknown]
    if not hasattr(diffusers, str(settings.get("_class_name", "DiffusionPipeline"))):
        issues.append(f"has the _class_name {settings['_class_name']!r}, which is no class. Restore it.")
    versions = {name: settings[name] for name in ("_diffusers_version", "transformers_version") if name in settings}
    for name, version in versions.items():
        if not VERSION.fullmatch(str(version)):
            issues.append(f"has the {name} {version!r}, which is none. Restore it.")
    if not set(settings.get("_use_default_values", [])) <= known:
        issues.append("has _use_default_values that are no settings of its class. Restore them.")
    return issues + [f"has {what}. Remove it." for what in given_away_by_settings(settings)]
