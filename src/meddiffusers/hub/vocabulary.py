"""Words that names in settings may have: those of code, of anatomy, and of computers.

Names of modalities, labels, attributes and data sets are free texts, which could name a person. Therefore each of their
words must be known, or be confirmed by whoever publishes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import diffusers
import transformers

_QUOTED = re.compile(r"\"([^\"\n]*)\"|'([^'\n]*)'")
_WORD = re.compile(r"[^\W\d_]+")
_PARTS = re.compile(r"[^\W\d_a-z]+(?![^\W\d_A-Z])|[^\W\d_a-z]?[^\W\d_A-Z]+")  # of HorizontallyJoinedWords
_NUMBER = re.compile(r"(?<![\d.])\d{5,}")
_MODULE = re.compile(r"\bself\.(?:add_module\(\s*\"(\w+)\"|([A-Za-z]\w*))")
_MODEL_NUMBER = re.compile(r"\b[A-Za-z]{0,2}\d\w*")  # of processors
_COMPUTERS = (
    "amd arm apple altra ampere blackwell chip core cores cpu cpus cuda epyc ge gen geforce genuine ghz gold gpu gpus "
    "graviton gtx hbm hopper intel laptop max mhz neoverse nv nvidia nvlink opteron pcie platinum pro processor quadro "
    "radeon rtx ryzen silver sxm tesla threadripper ti titan tm torch ultra virtual with xeon dev rc post git rocm"
)
_COMMON = (
    "and some one two three other class group label grade left right upper lower not of the in mr ct us pet image "
    "hypertrophied tilted spoilt"
)
_SETTINGS = ("diffusers.models.autoencoders", "diffusers.models.unets", "diffusers.schedulers")  # with their values
_NETWORKS = (
    "meddiffusers",
    "diffusers.models.autoencoders",
    "diffusers.models.unets",
    *(f"diffusers.models.{name}" for name in ("attention", "attention_processor", "embeddings", "resnet")),
    *(f"diffusers.models.{name}" for name in ("downsampling", "upsampling", "normalization")),
    "monai.networks",
    *(f"transformers.models.{name}" for name in ("bert", "roberta", "clip", "t5")),
)


def unknown_words(content: Any, confirmed: Collection[str] = ()) -> list[str]:
    """The words in the names and texts of JSON or YAML that are not known, and long numbers; each once.

    Args:
        content: Settings.
        confirmed: Texts whose words are known, too.
    """
    allowed = {part for text in confirmed for part in (*_parts(text), *_NUMBER.findall(text))}
    found: dict[str, None] = {}
    for text in texts_in(content):
        if text not in _classes():
            words = [*_NUMBER.findall(text), *_WORD.findall(text)]
            found |= {word: None for word in words if not _is_known(word, allowed)}
    return list(found)


def texts_in(content: Any) -> Iterator[str]:
    """The names and texts in JSON or YAML, without the value of `_name_or_path`."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield str(name)
            yield from texts_in(value if name != "_name_or_path" else None)
    elif isinstance(content, list):
        for value in content:
            yield from texts_in(value)
    elif content is not None and not isinstance(content, bool | int | float):
        yield str(content)  # YAML has dates, too


def without_model_numbers(hardware: str) -> str:
    """A text about processors without their numbers, such as 8259CL or i9-13900K."""
    return _MODEL_NUMBER.sub("", hardware)


@lru_cache(maxsize=1)
def known_modules() -> frozenset[str]:
    """Names of the parts of networks, which the names of weights are made of."""
    texts = (text for package in _NETWORKS for text in _sources(package))
    return frozenset("".join(names) for text in texts for names in _MODULE.findall(text))


@lru_cache(maxsize=1)
def _known_words() -> frozenset[str]:
    words = {*_COMPUTERS.split(), *_COMMON.split(), *_concepts(), *transformers.activations.ACT2FN}
    for package in ("meddiffusers", *_SETTINGS):
        for text in _sources(package):
            words |= {part for quoted in _QUOTED.findall(text) for part in _parts("".join(quoted))}
    return frozenset(words)


@lru_cache(maxsize=1)
def _classes() -> frozenset[str]:
    return frozenset(dir(diffusers)) | frozenset(dir(transformers))


def _concepts() -> set[str]:
    """Words of the concepts in DICOM's structured reports: anatomy, findings, imaging. Empty without pydicom."""
    if find_spec("pydicom") is None:
        return set()
    from pydicom.sr._concepts_dict import concepts

    return {part.lower() for names in concepts.values() for name in names for part in _PARTS.findall(name)}


def _is_known(word: str, allowed: Collection[str]) -> bool:
    return (
        word.isdecimal() is False and all(_is_part_known(part, allowed) for part in _parts(word))
    ) or word in allowed


def _is_part_known(part: str, allowed: Collection[str]) -> bool:
    known = _known_words()
    singular = part.removesuffix("s") if len(part) > 4 else part
    return len(part) == 1 or part in known or singular in known or part in allowed


def _parts(text: str) -> Iterator[str]:
    return (part.lower() for word in _WORD.findall(text) for part in _PARTS.findall(word) or [word])


def _sources(name: str) -> Iterator[str]:
    """The code of a module, or of all modules of a package."""
    spec = find_spec(name)
    origin = Path(spec.origin) if spec is not None and spec.origin is not None else Path("absent")
    for path in sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]:
        yield path.read_text(encoding="utf-8")
