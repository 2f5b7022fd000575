"""Check a repository on disk before anything is loaded or pushed.

Every check returns a list of sentences, one for each issue. No code of the repository runs, and nothing is unpickled.
"""

from __future__ import annotations

import difflib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

ADAPTER = "pytorch_lora_weights.safetensors"  # as diffusers names it
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
PICKLE_STARTS = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
TEXTS = {".json", ".jsonl", ".md", ".yaml", ".yml", ".txt", ".csv", ".tsv", ".html"}
# DICOM attributes that identify a person or a place (PS3.15, table E.1-1), as keyword, name or tag with a value behind:
# `"PatientID": "7"`, `(0010,0010) Patient's Name  PN: 'Doe'`, `(0010,0010) PN [Doe]`, `| PatientID | 7 |`.
_IDENTIFYING = (
    "PatientName|PatientID|PatientBirthDate|PatientAddress|PatientTelephoneNumbers|OtherPatientIDs|AccessionNumber|"
    "ReferringPhysicianName|InstitutionName|InstitutionAddress|StudyInstanceUID|SeriesInstanceUID|SOPInstanceUID"
)
_IDENTIFIER = re.compile(
    r"\b(?:0010,? ?00[1234]0\)?|" + re.sub(r"(?<=[a-zP])(?=[A-Z])", r"(?:'?s)? ?", _IDENTIFYING) + ")"
    r"[\"'\s|]*(?:[A-Z]{2}\b\s*)?[:=|\[][\"'\s|\[]*(?!null\b|None\b)[^\s\"'|,\[\]}]"
)


class RepositoryError(ValueError):
    """A repository cannot be used. `issues` lists every issue."""

    def __init__(self, where: str | Path, issues: list[str]) -> None:
        self.issues = issues
        super().__init__(f"{where} cannot be used:\n" + "\n".join(f"  - {issue}" for issue in issues))


def repository_issues(folder: Path) -> list[str]:
    """Check everything that loading a pipeline reads: index, component folders, configurations and weights."""
    index_file = folder / "model_index.json"
    if not index_file.is_file():
        return [f"No model_index.json in {folder}. Expected a folder written by a pipeline's save_pretrained."]
    index, issues = _read_json(index_file)
    for name, (library, class_name) in _components(index).items():
        issues += _component_issues(folder, name, library, class_name)
    return issues


def adapter_issues(folder: Path) -> list[str]:
    """Check that the weights of a repository with only a LoRA adapter are those of an adapter."""
    try:
        with safe_open(folder / ADAPTER, framework="pt") as weights:
            foreign = [name for name in weights.keys() if "lora" not in name]  # noqa: SIM118  it is no mapping
    except (SafetensorError, OSError):
        return []  # damaged files are reported by `weight_issues`
    return (
        [f"{ADAPTER} holds weights of no adapter ({foreign[0]}, …). Write it with save_lora_weights."]
        if foreign
        else []
    )


def weight_issues(folder: Path, within: str = ".") -> list[str]:
    """Check for damaged .safetensors files, pickles, and adapter weights inside a base model.

    Args:
        folder: Folder of the repository. Issues name files relative to it.
        within: Subfolder to check. Default: everything.
    """
    issues = []
    for path in _files(folder / within):
        name = path.relative_to(folder)
        if path.suffix in PICKLES:
            issues.append(f"{name} is a pickle, which can run code when opened. Convert it to safetensors.")
        elif path.suffix == ".safetensors":
            issues += [f"{name} {issue}" for issue in _safetensors_issues(path)]
    return issues


def identifier_issues(folder: Path) -> list[str]:
    """Check for DICOM files, and for DICOM identifiers with a value in text files."""
    issues = []
    for path in _files(folder):
        name = path.relative_to(folder)
        with path.open("rb") as file:
            is_dicom = file.read(132)[128:] == b"DICM"
        if is_dicom:
            issues.append(f"{name} is a DICOM file, which carries identifiers. Convert it to NIfTI or PNG.")
        elif path.suffix in TEXTS:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            numbers = [number for number, line in enumerate(lines, 1) if _IDENTIFIER.search(line)]
            issues += [f"{name}, line {number}, holds a DICOM identifier. Remove it." for number in numbers]
    return issues


def _components(index: dict[str, Any]) -> dict[str, list[str]]:
    """{name: [library, class]} of the components in a model_index.json; [null, null] is an absent component."""
    return {
        name: entry
        for name, entry in index.items()
        if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) and not name.startswith("_")
    }


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _read_json(path: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        return {}, [f"{path.name} of {path.parent.name} is not valid JSON ({error}). Restore it."]
    if not isinstance(content, dict):
        return {}, [f"{path.name} of {path.parent.name} holds a {type(content).__name__}, expected an object."]
    return content, []


def _component_issues(folder: Path, name: str, library: str, class_name: str) -> list[str]:
    component = folder / name
    if component.resolve().parent != folder.resolve():
        return [f"model_index.json names a component {name!r}, which lies outside the repository. Do not trust it."]
    if not component.is_dir():
        return [f"model_index.json names a component {name!r}, but there is no folder of that name. Fetch it again."]
    issues = weight_issues(folder, within=name)
    for path in sorted(component.glob("*config.json")):
        config, broken = _read_json(path)
        issues += broken
        if path.name == "config.json":  # of a model: a scheduler's or tokenizer's has another name
            issues += _unknown_keys(name, config, library, class_name)
            if not any(component.glob("*.safetensors")):
                issues.append(f"{name} has no .safetensors weights. Pickled weights are not loaded: convert them.")
    return issues


def _unknown_keys(component: str, config: dict[str, Any], library: str, class_name: str) -> list[str]:
    """Keys of a configuration that its class does not take; diffusers would ignore them."""
    import diffusers

    cls = getattr(getattr(diffusers.pipelines, library, diffusers), class_name, None)
    if not hasattr(cls, "extract_init_dict"):
        return []  # transformers models and remote code: theirs to judge
    known = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]  # type: ignore[misc]
    issues = []
    for key in sorted(config.keys() - set(known)):
        if not key.startswith("_"):
            close = difflib.get_close_matches(key, known, n=1)
            advice = f"Did you mean {close[0]!r}?" if close else "Remove it, or install the version that wrote it."
            issues.append(f"{component}/config.json has a key {key!r}, which {class_name} does not take. {advice}")
    return issues


def _safetensors_issues(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as weights:
            names = list(weights.keys())
    except (SafetensorError, OSError) as error:
        with path.open("rb") as file:
            start = file.read(2)
        if start in PICKLE_STARTS:
            return ["is named .safetensors but is a pickle. Convert it with safetensors.torch.save_file."]
        return [f"is damaged or cut short ({path.stat().st_size} bytes; {error}). Fetch it again."]
    is_base = path.name.startswith(("diffusion_pytorch_model", "model"))
    adapters = [name for name in names if "lora_" in name or ".base_layer." in name]
    if is_base and adapters:
        return [
            f"holds adapter weights ({adapters[0]}, …) inside the base model. Unload or fuse the adapter, then save."
        ]
    return []
