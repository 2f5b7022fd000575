"""What may be published: a list of kinds of files, each known by its place and checked by its content.

| file | content |
|---|---|
| `model_index.json`, `*config.json` | the keys of the class that is configured; no paths, dates or UIDs; known words |
| `*.safetensors` and their indices | tensors of numbers, and the metadata that diffusers and peft write |
| `*.py` | byte for byte the code of an installed package |
| tokenizer files | what the library behind them writes, and nothing else |
| `README.md`, `LICENSE`, `NOTICE` | text without identifiers |
| `metrics.json`, `training_config.yaml` | what training and evaluation write, in known words |
| `figures/*.png` | pixels alone: PNG chunks can hold texts and EXIF data |

Everything else is refused. The rest of a training run (checkpoints, logs, hidden files) stays where it is. Links are
not followed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from meddiffusers.hub.checks import INDEX, components
from meddiffusers.hub.identifiers import given_away
from meddiffusers.hub.publishable_settings import (
    config_content_issues,
    index_content_issues,
    metrics_content_issues,
    tokenizer_content_issues,
    tokenizer_settings_issues,
    training_config_content_issues,
    word_issues,
)
from meddiffusers.hub.publishable_weights import figure_content_issues, shard_index_issues, weights_content_issues
from meddiffusers.hub.published_code import published_sources
from meddiffusers.hub.weights import PICKLES
from meddiffusers.utils.reading import FileContentError, read_json, read_text, special_kind

# Names of a training run's files that are not part of the repository.
LEFT_OUT = re.compile(r"checkpoint-\d+|repository|validation|logs|log\.jsonl|film\.gif|\..*|__pycache__")
_MAX_TEXT = 2**20

Check = Callable[[Path], list[str]]


def files_to_publish(folder: Path) -> list[Path]:
    """The files of a repository, relative to its folder, links and pipes included, without what stays at home."""
    return [path.relative_to(folder) for path in _entries(folder)]


def publication_issues(folder: Path, names: Collection[str] = ()) -> list[str]:
    """Check that each file of a repository is of a kind that may be published, and holds what this kind holds.

    Args:
        folder: Folder of the repository.
        names: Names of modalities, labels, attributes or data sets that tell of no person, though their words are not
            known.

    Returns:
        A sentence for each issue, which begins with the file's name.
    """
    return [f"{name} {issue}" for name in files_to_publish(folder) for issue in _file_issues(folder, name, names)]


def _entries(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if LEFT_OUT.fullmatch(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(Path(entry.path))
            else:
                yield Path(entry.path)


def _file_issues(folder: Path, name: Path, names: Collection[str]) -> list[str]:
    path = folder / name
    if path.is_symlink():
        return ["is a link, which is not followed. Replace it by the file, or remove it."]
    if kind := special_kind(path):
        return [f"is {kind}; expected a file. Remove it."]
    check = next((check for pattern, check in _KINDS.items() if re.fullmatch(pattern, name.as_posix())), None)
    if check is None or name.parent.name not in ("", "figures", *_components(folder)):
        return [_unlisted(path)]
    try:
        return check(path) or (word_issues(path, names) if check in _SETTINGS else [])
    except FileContentError as error:
        return [error.cause]
    except ValueError as error:
        return [f"cannot be read: {error}"]


def _components(folder: Path) -> set[str]:
    """Names of the components' folders."""
    index = folder / INDEX
    try:
        return set(components(read_json(index))) if index.is_file() else set()
    except FileContentError:
        return set()  # which the check of the index reports


def _unlisted(path: Path) -> str:
    with path.open("rb") as file:
        is_dicom = file.read(132)[128:] == b"DICM"
    if is_dicom:
        return "is a DICOM file, which carries identifiers. Convert it to NIfTI or PNG."
    if path.suffix.lower() in PICKLES:
        return "is a pickle, which can run code when opened. Convert it to safetensors."
    return "is none of the files that a repository is made of, and what it holds is not known. Remove it."


def _code_issues(path: Path) -> list[str]:
    source = published_sources().get(path.name)
    if source is None:
        return ["is code of no installed package. Register its class with meddiffusers.registration, or remove it."]
    if path.read_bytes() != source.read_bytes():
        return [f"differs from {source.name} of the installed package. Load the repository and save it again."]
    return []


def _text_issues(path: Path) -> list[str]:
    return [f"has {what} in it. Remove it." for what in given_away(read_text(path, _MAX_TEXT))]


_PART = r"(?:[A-Za-z]\w*/)?"  # a component's folder
_WEIGHTS = r"(?:diffusion_pytorch_model|model)(?:\.(?:fp16|bf16|ema|non_ema))?"
_KINDS: dict[str, Check] = {
    re.escape(INDEX): index_content_issues,
    _PART + r"(?:tokenizer_config|special_tokens_map|added_tokens)\.json": tokenizer_settings_issues,
    _PART + r"(?:\w+_)?config\.json": config_content_issues,
    _PART + r"(?:tokenizer|vocab)\.json|" + _PART + r"(?:vocab|merges)\.txt": tokenizer_content_issues,
    _PART + _WEIGHTS + r"(?:-\d{5}-of-\d{5})?\.safetensors|pytorch_lora_weights\.safetensors": weights_content_issues,
    _PART + _WEIGHTS + r"\.safetensors\.index\.json": shard_index_issues,
    _PART + r"\w+\.py": _code_issues,
    r"README\.md|LICENSE(?:\.md|\.txt)?|NOTICE(?:\.md|\.txt)?": _text_issues,
    r"metrics\.json": metrics_content_issues,
    r"training_config\.yaml": training_config_content_issues,
    r"figures/\d+\.png": figure_content_issues,
}
_SETTINGS = (
    index_content_issues,
    config_content_issues,
    tokenizer_settings_issues,
    metrics_content_issues,
    training_config_content_issues,
    weights_content_issues,
)
