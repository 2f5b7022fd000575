"""Save a pipeline as a repository that opens with and without the package meddiffusers, and check its components.

A mixin that every pipeline of this project uses. It is published beside each of them.
"""

from __future__ import annotations

import inspect
import json
import shutil
import sys
from os import PathLike
from pathlib import Path
from typing import Any, Self

from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils.dynamic_modules_utils import get_relative_imports

from .meddiffusers_checks_v1 import check_component, check_setting

PUBLISHED_AS = "meddiffusers_saving_v1"  # the file has the same name in a repository, so imports find it in both places
ORIGIN = {"_name_or_path", "is_local", "local_files_only"}  # entries that loading adds to a component's configuration


class PublishedPipelineMixin:
    """Comes before `DiffusionPipeline` among the bases of a pipeline, whose module defines `PUBLISHED_AS`.

    The `_optional_components` of the class may be None, so that it loads what was saved without them. Those of an
    instance are those that a call does not need, either, whose parameter has a default.
    """

    _optional_components: list[str]
    _unneeded: list[str] = []

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let `DiffusionPipeline.from_pretrained` take each component from its arguments, None too.

        It does so only for parameters without a default, and otherwise loads what the repository has.
        """
        super().__init_subclass__(**kwargs)
        if "__init__" not in vars(cls):
            return
        signature, optional = inspect.signature(cls.__init__), set(cls._optional_components)
        parameters = [
            each.replace(default=each.empty) if each.name in optional else each
            for each in signature.parameters.values()
        ]
        cls._unneeded = [name for name in optional if signature.parameters[name].default is None]
        cls.__init__.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]

    def __init__(self) -> None:
        super().__init__()
        self._optional_components = self._unneeded

    def register_modules(self, **components: Any) -> None:
        """Add components, as in diffusers; raise a ValueError if one is no instance of what its name says."""
        for name, component in components.items():
            check_component(name, component, name in type(self)._optional_components)
        super().register_modules(**components)  # type: ignore[misc]

    def register_to_config(self, **settings: Any) -> None:
        """Change settings, as in diffusers; raise a ValueError if one cannot be meant."""
        for name, value in settings.items():
            check_setting(name, value)
        super().register_to_config(**settings)  # type: ignore[misc]

    def __setattr__(self, name: str, value: Any) -> None:
        """Replace a component, or set another attribute; components are checked as `register_modules` does."""
        registered = self.config.get(name) if name in self.__dict__ else None  # type: ignore[attr-defined]
        if isinstance(registered, (list, tuple)):
            check_component(name, value, name in type(self)._optional_components)
            if value is not None and registered[0] is None:  # where diffusers would save it as None again
                self.register_modules(**{name: value})
                return
        super().__setattr__(name, value)

    def to_json_string(self) -> str:
        """Return `model_index.json` with sorted keys and without the folder that the pipeline was loaded from."""
        config = json.loads(super().to_json_string())  # type: ignore[misc]
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write `model_index.json` and the code files, so that the repository opens where the package is not installed.

        `save_pretrained` calls this after it has saved the components, and removes local paths from their
        configurations on the way.

        Args:
            save_directory: Folder of the repository.
            push_to_hub: Upload the folder afterwards, as in diffusers.
            kwargs: Passed on to diffusers.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        published_as, source = _published_source(type(self))
        shutil.copyfile(source, folder / f"{published_as}.py")
        for name in get_relative_imports(source):  # the files that diffusers expects beside it
            shutil.copyfile(source.with_name(f"{name}.py"), folder / f"{name}.py")
        for path in folder.glob("*/*config.json"):
            config = json.loads(path.read_text(encoding="utf-8"))
            if ORIGIN & config.keys():
                kept = {name: value for name, value in config.items() if name not in ORIGIN}
                path.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)  # type: ignore[misc]

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> Self:
        """Build this pipeline from the components and the configuration of another one.

        diffusers keeps a model only where the constructor is annotated with exactly its class. This keeps every
        component that the constructor takes.

        Args:
            pipeline: Pipeline whose components are shared.
            kwargs: Components and settings that replace those of `pipeline`, and what diffusers takes.
        """
        expected, _ = cls._get_signature_keys(cls)  # type: ignore[attr-defined]
        shared = {name: part for name, part in pipeline.components.items() if name in expected}
        return super().from_pipe(pipeline, **{**shared, **kwargs})  # type: ignore[misc]


def _published_source(pipeline_class: type) -> tuple[str, Path]:
    """Published name and source file of a pipeline class; those of its base for a subclass outside a published file."""
    for base in pipeline_class.__mro__:
        if not issubclass(base, DiffusionPipeline):
            continue  # mixins are published beside it
        module = sys.modules[base.__module__]
        name, file = getattr(module, "PUBLISHED_AS", None), getattr(module, "__file__", None)
        if name and file and Path(file).stem in name:  # else a module that only imports the name from another
            return name, Path(file)
    raise TypeError(f"The module of {pipeline_class.__name__} has no PUBLISHED_AS, the name of its published file.")
