"""Check a repository on disk before anything is loaded or pushed.

Every check returns a list of sentences, one for each issue. No code of the repository runs, and nothing is unpickled.
"""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from meddiffusers.hub.adapters import adapter_weight_issues
from meddiffusers.hub.components import component_class, component_issues, without_weights
from meddiffusers.hub.configurations import (
    missing_key_issues,
    quiet,
    read_configuration,
    unknown_key_issues,
    value_issues,
)
from meddiffusers.hub.identifiers import identifying_lines
from meddiffusers.hub.setting_rules import rule_issues
from meddiffusers.hub.weights import ADAPTER, regular_files, shapes_of, weight_issues
from meddiffusers.utils.reading import FileContentError, special_kind

INDEX = "model_index.json"
TEXTS = {".json", ".jsonl", ".md", ".yaml", ".yml", ".txt", ".csv", ".tsv", ".html", ".xml", ".log", ".py", ".ipynb"}


class RepositoryError(ValueError):
    """A repository cannot be used. `issues` lists every issue."""

    def __init__(self, where: str | Path, issues: list[str]) -> None:
        self.issues = issues
        super().__init__(f"{where} cannot be used:\n" + "\n".join(f"  - {issue}" for issue in issues))


def repository_issues(folder: Path) -> list[str]:
    """Check everything that loading a pipeline reads: index, component folders, configurations and weights."""
    if not (folder / INDEX).exists():
        return [_no_index(folder)]
    index, issues = _read_index(folder)
    if index is None:
        return issues
    issues = special_file_issues(folder) + _index_issues(index)
    for name, (library, class_name) in components(index).items():
        issues += _component_issues(folder, name, library, class_name)
    return issues or _assembly_issues(folder, index)


def code_issues(folder: Path) -> list[str]:
    """The pipeline and the components that no installed library has, so that only code of the repository opens them."""
    index, _ = _read_index(folder) if (folder / INDEX).exists() else (None, [])
    issues = []
    if index is not None and pipeline_class(index) is None:
        issues.append(_unknown_pipeline(folder, _pipeline_name(index)))
    for name, (library, class_name) in components(index or {}).items():
        if component_class(library, class_name) is None and (folder / name / f"{library}.py").is_file():
            issues.append(
                f"{name} is the class {class_name} of no installed library: it needs the code in {library}.py. Read "
                "that file, then give trust_remote_code=True."
            )
    return issues


def adapter_issues(folder: Path) -> list[str]:
    """Check that the weights of a repository with only a LoRA adapter are those of an adapter."""
    return adapter_weight_issues(folder / ADAPTER) if shapes_of(folder / ADAPTER) else []  # damaged: `weight_issues`


def special_file_issues(folder: Path) -> list[str]:
    """Pipes, sockets and devices, which would block whoever opens them."""
    entries = (path for path in sorted(folder.rglob("*")) if path.exists() and not path.is_dir())
    kinds = {path.relative_to(folder): special_kind(path) for path in entries}
    return [f"{name} is {kind}; expected a file. Remove it." for name, kind in kinds.items() if kind]


def identifier_issues(folder: Path) -> list[str]:
    """Check for DICOM files, and for DICOM identifiers with a value in text files."""
    issues = []
    for path in regular_files(folder):
        name = path.relative_to(folder)
        with path.open("rb") as file:
            is_dicom = file.read(132)[128:] == b"DICM"
        if is_dicom:
            issues.append(f"{name} is a DICOM file, which carries identifiers. Convert it to NIfTI or PNG.")
        elif path.suffix.lower() in TEXTS or not path.suffix:
            numbers = identifying_lines(path.read_text(encoding="utf-8", errors="replace"))
            issues += [f"{name}, line {number}, holds a DICOM identifier. Remove it." for number in numbers]
    return issues


def components(index: Mapping[str, Any]) -> dict[str, list[str]]:
    """{name: [library, class]} of the components in a model_index.json; [null, null] is an absent component."""
    return {name: entry for name, entry in index.items() if _is_component(entry) and not name.startswith("_")}


def pipeline_class(index: Mapping[str, Any]) -> type[DiffusionPipeline] | None:
    """The class of the pipeline in an installed library, or None."""
    found = getattr(diffusers, _pipeline_name(index), None)
    return found if isinstance(found, type) and issubclass(found, DiffusionPipeline) else None


def _is_component(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry)


def _pipeline_name(index: Mapping[str, Any]) -> str:
    name = index.get("_class_name")
    return str(name[1] if isinstance(name, list) and len(name) == 2 else name)


def _no_index(folder: Path) -> str:
    if (folder / ADAPTER).is_file():
        return f"No {INDEX} in {folder}, only an adapter. Load its base model, then call load_lora_weights with it."
    return f"No {INDEX} in {folder}. Expected a folder written by a pipeline's save_pretrained."


def _unknown_pipeline(folder: Path, name: str) -> str:
    unknown = f"{INDEX} names the pipeline {name}, which is in no installed library"
    files = sorted(path.stem for path in folder.glob("*.py"))
    if files:
        return f"{unknown}: it needs code of the repository. Read it, then give custom_pipeline={files[0]!r} (of " + (
            f"{', '.join(files)}) and trust_remote_code=True."
        )
    close = difflib.get_close_matches(name, [known for known in dir(diffusers) if known.endswith("Pipeline")], n=1)
    return f"{unknown}. {f'Did you mean {close[0]}?' if close else 'Install the library that has it.'}"


def _read_index(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    try:
        return read_configuration(folder / INDEX), []
    except FileContentError as error:
        return None, [f"{INDEX} of {folder.name} {error.cause}"]


def _index_issues(index: Mapping[str, Any]) -> list[str]:
    """Check the name of the pipeline, and that it gets the components and settings it takes, and no others."""
    name = index.get("_class_name")
    if isinstance(name, list) and len(name) == 2 and all(isinstance(part, str) for part in name):
        return []  # a pipeline of the repository's own code
    if not isinstance(name, str):
        return [f"{INDEX} has the _class_name {name!r}, expected the name of a pipeline. Restore it."]
    cls = pipeline_class(index)
    if cls is None:
        return []
    required, optional = cls._get_signature_keys(cls)
    published = hasattr(sys.modules[cls.__module__], "PUBLISHED_AS")  # others do not save all of their settings
    optional_parts = () if published else cls._optional_components
    absent = [key for key in required if key not in index and key not in optional_parts]
    issues = [f"{INDEX} lacks {key!r}, which {name} needs. Restore it." for key in absent]
    given = {key: entry for key, entry in index.items() if entry != [None, None]}
    issues += unknown_key_issues(INDEX, list(given), {*required, *optional}, name)
    settings = {key: entry for key, entry in given.items() if key not in required}
    issues += value_issues(INDEX, settings, cls) or rule_issues(INDEX, settings, cls)
    if published:
        defaults = {name for name, each in inspect.signature(cls).parameters.items() if each.default is None}
        issues += missing_key_issues(INDEX, index, cls, [*required, *defaults])
    wrong = [key for key in required if key in index and index[key] != [None, None] and not _is_component(index[key])]
    return issues + [f"{INDEX} has {key!r} as {index[key]!r}, expected [library, class]. Restore it." for key in wrong]


def _assembly_issues(folder: Path, index: Mapping[str, Any]) -> list[str]:
    """Check that the pipeline takes its components, without their weights, and its settings."""
    cls: Any = pipeline_class(index)
    classes = {name: component_class(*entry) for name, entry in components(index).items()}
    if cls is None or not all(classes.values()):
        return []  # code of the repository
    required, _ = cls._get_signature_keys(cls)
    settings = {key: entry for key, entry in index.items() if not key.startswith("_") and key not in classes}
    absent = dict.fromkeys((key for key in required if index.get(key) in (None, [None, None])), None)
    try:
        parts = {name: without_weights(folder / name, each) for name, each in classes.items()}
        with quiet():
            cls(**{**settings, **absent, **parts})
    except Exception as error:  # whatever a constructor raises
        return [f"{INDEX} does not describe a {cls.__name__}: {' '.join(str(error).split())} Restore it."]
    return []


def _component_issues(folder: Path, name: str, library: str, class_name: str) -> list[str]:
    component = folder / name
    if component.resolve().parent != folder.resolve():
        return [f"{INDEX} names a component {name!r}, which lies outside the repository. Do not trust it."]
    if not component.is_dir():
        return [f"{INDEX} names a component {name!r}, but there is no folder of that name. Fetch it again."]
    issues = weight_issues(folder, within=name)
    cls = component_class(library, class_name)
    if cls is not None:
        return issues + component_issues(component, cls)
    if not (component / f"{library}.py").is_file():
        close = difflib.get_close_matches(class_name, [key for key in dir(diffusers) if key[0].isupper()], n=1)
        advice = f"Did you mean {close[0]}?" if close else "Install the library or the version that has it."
        issues.append(
            f"{INDEX} names {name!r} as {class_name} of {library}, which is in no installed library. {advice}"
        )
    return issues
