"""Source files of the code that repositories carry, under their published names."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import diffusers
from diffusers.utils.dynamic_modules_utils import get_relative_import_files

_REGISTERED = "_meddiffusers_registered"  # where registration.py keeps {class: module}, those of other plugins included
_PUBLISHED_AS = re.compile(r'^PUBLISHED_AS = "(\w+)"', re.MULTILINE)


def published_sources() -> dict[str, Path]:
    """{published file name: source} of every registered class, and of what these files import from beside them."""
    sources: dict[str, Path] = {}
    for module in sorted({*vars(diffusers).get(_REGISTERED, {}).values()}):
        spec = find_spec(module)
        if spec is not None and spec.origin is not None:
            files = [Path(file) for file in (spec.origin, *get_relative_import_files(spec.origin))]
            sources |= {_published_name(file): file for file in files}
    return sources


def _published_name(source: Path) -> str:
    name = _PUBLISHED_AS.search(source.read_text(encoding="utf-8"))
    return f"{name[1] if name else source.stem}.py"
