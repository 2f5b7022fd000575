"""Register the classes of this package with diffusers, and import them only when they are used.

diffusers looks a class up in three places: `diffusers.<Class>` (pipelines, `AutoModel`, compatible schedulers),
`diffusers.pipelines.<library>` (the library that `model_index.json` names for a component) and, failing that, a file
`<component>/<library>.py` of the repository, run only with `trust_remote_code=True`. Both modules are accessed by
attribute, so a module-level `__getattr__` (PEP 562) on each resolves the first two. `AutoPipelineForText2Image` and
`AutoPipelineForImage2Image` look pipelines up in tables of their own module, which get an entry when it is imported.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import diffusers

_REGISTERED = "_meddiffusers_registered"  # kept on diffusers, so that it survives a reload of this module
_LIBRARY = re.compile(r"meddiffusers_(?P<stem>\w+)_v\d+")
_AUTO = "diffusers.pipelines.auto_pipeline"
_AUTO_TABLES = ("AUTO_TEXT2IMAGE_PIPELINES_MAPPING", "AUTO_IMAGE2IMAGE_PIPELINES_MAPPING")
_TEXT_TO_IMAGE = "TextToMRPipeline"  # which generates images from a prompt, and from a prompt and an image


def register(public: Mapping[str, str]) -> None:
    """Let diffusers resolve classes by name. Registering a class again has no effect.

    Args:
        public: Modules by class name.

    Raises:
        ImportError: diffusers already has a class with one of these names.
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

    def find_library(name: str) -> ModuleType | type:
        if name in new and name.endswith("Pipeline"):
            return find_class(name)
        match = _LIBRARY.fullmatch(name)
        module = importlib.import_module(modules[match["stem"]]) if match and match["stem"] in modules else None
        if module is None or name != module.PUBLISHED_AS:  # another version: diffusers needs the repository's own file
            raise AttributeError(f"module 'diffusers.pipelines' has no attribute {name!r}")
        return module

    if new:
        registered.update(new)
        _hook(diffusers, find_class)
        _hook(diffusers.pipelines, find_library)
    if _TEXT_TO_IMAGE in new:
        _after_import(_AUTO, lambda auto: _add_to_tables(auto, find_class(_TEXT_TO_IMAGE)))


def _hook(module: ModuleType, find: Callable[[str], Any]) -> None:
    """Resolve missing attributes of `module` by `find`, after a hook of another plugin, if there is one."""
    earlier = vars(module).get("__getattr__")

    def __getattr__(name: str) -> Any:  # noqa: N807
        if earlier is not None:
            try:
                return earlier(name)
            except AttributeError:
                pass
        return find(name)

    vars(module)["__getattr__"] = __getattr__


def _add_to_tables(auto: ModuleType, pipeline_class: type) -> None:
    for table in _AUTO_TABLES:
        getattr(auto, table)[pipeline_class.__name__] = pipeline_class


def _after_import(name: str, act: Callable[[ModuleType], None]) -> None:
    """Call `act` with a module: now if it is imported already, otherwise when it is."""
    if name in sys.modules:
        act(sys.modules[name])
        return

    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(
            self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
        ) -> importlib.machinery.ModuleSpec | None:
            if fullname != name:
                return None
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec(fullname)
            if spec is not None and spec.loader is not None:
                execute = spec.loader.exec_module

                def exec_module(module: ModuleType) -> None:
                    execute(module)
                    act(module)

                spec.loader.exec_module = exec_module  # type: ignore[method-assign]
            return spec

    sys.meta_path.insert(0, Finder())
