"""Import optional dependencies."""

from __future__ import annotations

import importlib
from types import ModuleType


def optional_import(module: str, extra: str) -> ModuleType:
    """Import a module of an optional dependency.

    Args:
        module: full name.
        extra: extra of this package that installs it.

    Raises:
        ImportError: it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # The module is installed, but one of its own dependencies is not.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ImportError(
            f'{module} is not installed; expected it from the extra "{extra}": pip install "meddiffusers[{extra}]"',
            name=module,
        ) from error
