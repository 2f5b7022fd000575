"""What is wrong with a repository on disk, said before anything is loaded from it or pushed from it.

Every check returns sentences; an empty list means none found. Nothing of the repository is executed or unpickled.
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

PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
TEXTS = {".json", ".jsonl", ".md", ".yaml", ".yml", ".txt", ".csv", ".tsv", ".html"}
# DICOM attributes that identify a person or place (PS3.15, table E.1-1), as keywords or tags with a value behind them.
_IDENTIFIER = re.compile(
    r"\b(?:Patient(?:'?s)? ?(?:Name|ID|BirthDate|Address|TelephoneNumbers?)|OtherPatientIDs|AccessionNumber"
    r"|ReferringPhysician(?:'?s)? ?Name|InstitutionName|StudyInstanceUID|SeriesInstanceUID|SOPInstanceUID"
    r"|\(?0010, ?00[1234]0\)?)[\"'\s|]*[:=|][\"'\s|]*(?P<value>[^\s\"'|,}]+)"
)


class RepositoryError(ValueError):
    """A repository that cannot be used, with every fault found in it."""

    def __init__(self, where: str | Path, faults: list[str]) -> None:
        self.faults = faults
        super().__init__(f"{where} cannot be used:\n" + "\n".join(f"  - {fault}" for fault in faults))


def repository_faults(folder: Path) -> list[str]:
    """Faults of a pipeline repository: index, component folders, configurations, weights."""
    index_file = folder / "model_index.json"
    if not index_file.is_file():
        return [f"No model_index.json in {folder}. Expected a folder written by a pipeline's save_pretrained."]
    index, faults = _read_json(index_file)
    components = {name: entry for name, entry in index.items() if isinstance(entry, list) and entry[0] is not None}
    components.pop("_class_name", None)
    for name, (library, class_name) in components.items():
        component = (folder / name).resolve()
        if component.parent != folder.resolve():
            faults.append(f"model_index.json names a component {name!r}, which leads out of the repository.")
        elif not component.is_dir():
            faults.append(f"model_index.json names a component {name!r}, but there is no folder of that name.")
        else:
            faults += _configuration_faults(component, library, class_name)
    return faults + weight_faults(folder)


def weight_faults(folder: Path) -> list[str]:
    """Truncated or foreign .safetensors files, pickles, and adapter weights inside a base model."""
    faults = []
    for path in _files(folder):
        name = path.relative_to(folder)
        if path.suffix in PICKLES:
            faults.append(f"{name} is a pickle, which can run code when opened. Convert it to safetensors.")
        elif path.suffix == ".safetensors":
            faults += [f"{name} {fault}" for fault in _safetensors_faults(path)]
    return faults


def identifier_faults(folder: Path) -> list[str]:
    """DICOM files, and DICOM identifiers with a value in text files."""
    faults = []
    for path in _files(folder):
        name = path.relative_to(folder)
        with path.open("rb") as file:
            is_dicom = file.read(132)[128:] == b"DICM"
        if is_dicom:
            faults.append(f"{name} is a DICOM file, which carries identifiers. Convert it to NIfTI or PNG.")
        elif path.suffix in TEXTS:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            found = [number for number, line in enumerate(lines, 1) if _IDENTIFIER.search(line)]
            faults += [f"{name}, line {number}, holds a DICOM identifier. Remove it." for number in found]
    return faults


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


def _configuration_faults(component: Path, library: str, class_name: str) -> list[str]:
    """Keys of a component's config.json that its class does not take."""
    import diffusers

    path = component / "config.json"
    cls = getattr(getattr(diffusers.pipelines, library, diffusers), class_name, None)
    if not path.is_file() or not hasattr(cls, "extract_init_dict"):
        return []  # tokenizers, transformers models and remote code: theirs to judge
    config, faults = _read_json(path)
    known = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]  # type: ignore[misc]
    for key in config.keys() - set(known):
        if not key.startswith("_"):
            close = difflib.get_close_matches(key, known, n=1)
            advice = f"Did you mean {close[0]!r}?" if close else "Remove it, or install the version that wrote it."
            faults.append(f"{component.name}/config.json has a key {key!r}, which {class_name} does not take. {advice}")
    return faults


def _safetensors_faults(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as weights:
            names = list(weights.keys())
    except (SafetensorError, OSError) as error:
        if path.read_bytes()[:2] in (b"PK", b"\x80\x02", b"\x80\x04"):
            return ["is named .safetensors but is a pickle. Convert it with safetensors.torch.save_file."]
        return [f"is damaged or cut short ({path.stat().st_size} bytes; {error}). Fetch it again."]
    is_base = path.name.startswith(("diffusion_pytorch_model", "model"))
    adapters = [name for name in names if "lora_" in name or ".base_layer." in name]
    if is_base and adapters:
        return [
            f"holds adapter weights ({adapters[0]}, …) inside the base model. Unload or fuse the adapter, then save."
        ]
    return []
