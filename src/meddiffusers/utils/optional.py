"""The one place through which optional dependencies are imported."""

from __future__ import annotations

import importlib
from types import ModuleType


def optional_import(module: str, extra: str) -> ModuleType:
    """Import a module that the package's extra brings; ImportError naming that extra where it is absent."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A module that is there but misses one of its own dependencies must say so itself.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ImportError(
            f'{module} is not installed; expected it from the extra "{extra}": pip install "meddiffusers[{extra}]"',
            name=module,
        ) from error
