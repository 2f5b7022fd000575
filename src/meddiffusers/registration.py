"""Makes diffusers find this package's classes, without importing them before they are asked for.

diffusers looks a class up in three places: `diffusers.<Class>` (pipelines, `AutoModel`, compatible schedulers),
`diffusers.pipelines.<library>` (the library that `model_index.json` names for a component) and, failing that, a file
`<component>/<library>.py` of the repository, run only with `trust_remote_code=True`. Both modules are asked through
plain attribute access, so a module-level `__getattr__` (PEP 562) on each answers the first two.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import diffusers

_REGISTERED = "_meddiffusers_registered"  # lives on diffusers, so that a reload of this module does not forget
_LIBRARY = re.compile(r"meddiffusers_(?P<stem>\w+)_v\d+")


def register(public: Mapping[str, str]) -> None:
    """Let diffusers resolve the classes of `public`, {class name: module}. What is registered already stays so.

    Raises:
        ImportError: diffusers already has a class of one of these names.
    """
    registered = vars(diffusers).setdefault(_REGISTERED, {})
    new = {name: module for name, module in public.items() if registered.get(name) != module}
    clashes = [name for name in new if hasattr(diffusers, name)]
    if clashes:
        raise ImportError(
            f"diffusers {diffusers.__version__} already has {', '.join(clashes)}, which meddiffusers would shadow. "
            "Install versions of the two packages that fit: see constraints.txt of meddiffusers."
        )
    modules = {module.rpartition(".")[2]: module for module in new.values()}

    def find_class(name: str) -> type:
        if name not in new:
            raise AttributeError(f"module 'diffusers' has no attribute {name!r}")
        return getattr(importlib.import_module(new[name]), name)

    def find_library(name: str) -> ModuleType:
        match = _LIBRARY.fullmatch(name)
        module = importlib.import_module(modules[match["stem"]]) if match and match["stem"] in modules else None
        if module is None or name != module.PUBLISHED_AS:  # another version: the repository's own file must serve
            raise AttributeError(f"module 'diffusers.pipelines' has no attribute {name!r}")
        return module

    if new:
        registered.update(new)
        _hook(diffusers, find_class)
        _hook(diffusers.pipelines, find_library)


def _hook(module: ModuleType, find: Callable[[str], Any]) -> None:
    """Ask `find` for what `module` lacks, after a hook that another plugin may have set."""
    earlier = vars(module).get("__getattr__")

    def __getattr__(name: str) -> Any:  # noqa: N807
        if earlier is not None:
            try:
                return earlier(name)
            except AttributeError:
                pass
        return find(name)

    vars(module)["__getattr__"] = __getattr__
