"""Check that the components of a repository can be built: their class, configuration and weights fit.

Networks are built without memory for weights, and compared with the names, shapes and types in the weight files. No
code of the repository runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_loading_utils import simple_get_class_obj
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from meddiffusers.hub.configurations import (
    build,
    config_file,
    config_keys,
    missing_key_issues,
    quiet,
    read_configuration,
    size_issues,
    unknown_key_issues,
    value_issues,
)
from meddiffusers.hub.setting_rules import rule_issues
from meddiffusers.hub.weights import shapes_of
from meddiffusers.utils.reading import FileContentError, read_json

_LAYER_NORM = re.compile(r"(?<=LayerNorm\.)(gamma|beta)$")  # names in weights that were converted from TensorFlow
_SINCE = {"gamma": "weight", "beta": "bias"}
_SHARD = re.compile(r"-\d{5}-of-\d{5}")


def component_class(library: str, class_name: str) -> type | None:
    """The class of a component in an installed library; None if only the repository's own code has it."""
    try:
        found = simple_get_class_obj(library, class_name)
    except (AttributeError, ValueError, ImportError, RuntimeError):
        return None
    return found if isinstance(found, type) and hasattr(found, "from_pretrained") else None


def component_issues(folder: Path, cls: type) -> list[str]:
    """Check the files of a component.

    Args:
        folder: Folder of the component.
        cls: Its class.
    """
    if issubclass(cls, ConfigMixin):
        return _configured_issues(folder, cls)
    if issubclass(cls, transformers.PreTrainedModel):
        return _transformers_issues(folder, cls)
    return _opening_issues(folder, cls)


def without_weights(folder: Path, cls: Any) -> Any:
    """A component without memory for weights, in whose files `component_issues` found nothing."""
    with quiet():
        if issubclass(cls, ConfigMixin):
            return build(read_configuration(folder / config_file(cls)), cls)
        if issubclass(cls, transformers.PreTrainedModel):
            with torch.device("meta"):
                return cls(cls.config_class.from_dict(read_configuration(folder / "config.json")))
        return cls.from_pretrained(folder, local_files_only=True)


def _configured_issues(folder: Path, cls: Any) -> list[str]:
    name = f"{folder.name}/{config_file(cls)}"
    config, issues = _read_config(folder / config_file(cls), name)
    if config is None:
        return issues
    unknown = unknown_key_issues(name, list(config), config_keys(cls), cls.__name__)
    sizes = size_issues(name, config) if issubclass(cls, ModelMixin) else []
    if issues := sizes + value_issues(name, config, cls) + missing_key_issues(name, config, cls):
        return unknown + issues
    if issues := rule_issues(name, config, cls):
        return unknown + issues
    try:
        built = build(config, cls)
    except Exception as error:
        return unknown or [f"{name} does not describe a {cls.__name__}: {_reason(error)} Restore it."]
    if issues := unknown_key_issues(name, list(config), config_keys(cls) | set(built.config), cls.__name__):
        return issues
    betas = getattr(built, "betas", None)
    if betas is not None and not ((betas >= 0) & (betas <= 1)).all():
        return [f"{name} gives betas outside 0 to 1. Restore it."]
    if not isinstance(built, ModelMixin) or "quantization_config" in config:
        return []
    expected = {key: (tensor.is_floating_point(), list(tensor.shape)) for key, tensor in built.state_dict().items()}
    ignored: Sequence[str] = built._keys_to_ignore_on_load_unexpected or []
    return _weights_issues(folder, cls.__name__, expected, ignored)


def _transformers_issues(folder: Path, cls: Any) -> list[str]:
    name = f"{folder.name}/config.json"
    config, issues = _read_config(folder / "config.json", name)
    if config is None:
        return issues
    is_of_this_version = config.get("transformers_version") == transformers.__version__  # others have other keys
    known = config_keys(cls) if is_of_this_version else set(config)
    if issues := size_issues(name, config) + unknown_key_issues(name, list(config), known, cls.__name__):
        return issues
    try:
        with quiet(), torch.device("meta"):  # which keeps tied weights tied
            model = cls(cls.config_class.from_dict(config))
    except Exception as error:
        return [f"{name} does not describe a {cls.__name__}: {_reason(error)} Restore it."]
    if get_checkpoint_conversion_mapping(config.get("model_type")):
        return []  # whose weights have other names in files, which transformers converts
    prefix = f"{cls.base_model_prefix}."
    expected = {key: (True, list(parameter.shape)) for key, parameter in model.named_parameters()}
    return _weights_issues(folder, cls.__name__, expected, [".*"], prefix)


def _opening_issues(folder: Path, cls: Any) -> list[str]:
    """Open a component without weights: a tokenizer or an image processor."""
    for path in sorted(folder.glob("*.json")):
        try:
            read_json(path, kind=None)
        except FileContentError as error:
            return [f"{path.name} of {folder.name} {error.cause}"]
    vocabulary = list(getattr(cls, "vocab_files_names", {}).values())
    if vocabulary and not any((folder / name).is_file() for name in vocabulary):  # transformers would make an empty one
        return [f"{folder.name} has no {' or '.join(vocabulary)}, so no text would be understood. Fetch it again."]
    try:
        with quiet():
            cls.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        return [f"{folder.name} does not hold a {cls.__name__}: {_reason(error)} Fetch it again."]
    return []


def _read_config(path: Path, name: str) -> tuple[dict[str, Any] | None, list[str]]:
    if not path.exists():
        return None, [f"{name} is missing. Fetch it again."]
    try:
        return read_configuration(path), []
    except FileContentError as error:
        return None, [f"{path.name} of {path.parent.name} {error.cause}"]


def _weights_issues(
    folder: Path,
    class_name: str,
    expected: Mapping[str, tuple[bool, list[int]]],
    ignored: Sequence[str],
    prefix: str = "",
) -> list[str]:
    """Compare the weight files with a network's weights: {name: (floating point, shape)}."""
    groups: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        if not path.is_file():
            return [
                f"{folder.name}/{path.name} is no file, but {'a folder' if path.is_dir() else 'a link to nothing'}."
            ]
        groups.setdefault(_SHARD.sub("", path.name), []).append(path)
    if not groups:
        return [f"{folder.name} has no .safetensors weights. Pickled weights are not loaded: convert them."]
    issues = []
    for group, paths in groups.items():
        held = {name: entry for path in paths for name, entry in shapes_of(path).items()}
        if not all(shapes_of(path) for path in paths):
            continue  # damaged, which `weight_issues` reports
        sharded = [path.name for path in paths if path.name != group]
        if sharded or (folder / f"{group}.index.json").exists():
            issues += _index_issues(folder, group, sharded)
        file = f"{folder.name}/{group}"
        if prefix:
            held = {_LAYER_NORM.sub(lambda match: _SINCE[match[1]], name): entry for name, entry in held.items()}
        if prefix and not set(expected) & set(held):
            held = {name.removeprefix(prefix): entry for name, entry in held.items()}
        missing = sorted(set(expected) - set(held))
        strange = set(held) - set(expected)
        left = [n for n in sorted(strange) if not any(re.search(pattern, n) for pattern in ignored)]
        if missing and any(".query." in name for name in strange):
            continue  # names of earlier versions, which diffusers converts
        for problem, names in (("lacks", missing), ("holds, beside those of the network,", left)):
            if names:
                issues.append(f"{file} {problem} weights of {class_name}: {_some(names)}. Fetch it again.")
        issues += [f"{file} holds {issue}" for issue in _mismatches(expected, held)]
    return issues


def _mismatches(
    expected: Mapping[str, tuple[bool, list[int]]], held: Mapping[str, tuple[str, list[int]]]
) -> Iterator[str]:
    for name in sorted(set(expected) & set(held)):
        (is_float, shape), (kind, found) = expected[name], held[name]
        if list(found) != shape:
            yield f"{name} of shape {list(found)}, but the configuration makes it {shape}. Restore one of the two."
        elif kind.lstrip("B").startswith("F") != is_float:
            yield f"{name} as {kind}, expected {'floating-point numbers' if is_float else 'whole numbers'}."


def _index_issues(folder: Path, group: str, shards: Sequence[str]) -> list[str]:
    """Check the index of weights in several files."""
    index = folder / f"{group}.index.json"
    if not index.exists():
        return [f"{folder.name}/{index.name} is missing, which says what is in {_some(shards)}. Fetch it again."]
    try:
        files = read_configuration(index).get("weight_map")
    except FileContentError as error:
        return [f"{index.name} of {folder.name} {error.cause}"]
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        return [f"{index.name} of {folder.name} has no weight_map of files by name. Restore it."]
    missing = sorted(set(files.values()) - set(shards))
    return (
        [f"{folder.name}/{index.name} names {_some(missing)}, which are missing. Fetch them again."] if missing else []
    )


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or "it cannot be built"
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
