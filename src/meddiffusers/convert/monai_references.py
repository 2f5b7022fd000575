"""Follow the references of MONAI's configurations, as MONAI's `ConfigParser` does, but evaluate no expressions.

| text | value |
|---|---|
| `@name`, `$@name` | that of the entry `name` |
| `@name::part::0` | that of a part of it; `#` separates parts, too |
| `@::name` | that of the entry `name` beside the one that refers to it, one level further up for each more `::` |
| `%name` | a copy of the entry |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_REFERENCE = re.compile(r"(?:\$?@|%)((?:::)*)(\w+(?:::\w+)*)")
_MAX_DEPTH = 100  # references in a row, lists and objects within one another
_MAX_FOLLOWED = 10_000
Place = tuple[str, ...]


class References:
    """The entries of configurations, and the values that they refer to.

    Args:
        settings: Entries by name.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self._followed = 0

    def value(self, value: Any, place: Place = (), followed: tuple[Place, ...] = (), depth: int = 0) -> Any:
        """Return a value with the values in place of references.

        Args:
            value: A value of the configurations.
            place: Names that lead to it, for references to what stands beside it.
            followed: Places that were followed to it.
            depth: Number of steps to it.

        Raises:
            ValueError: A reference to nothing, in a circle, or more of them than configurations have.
        """
        if depth > _MAX_DEPTH:
            raise ValueError(f"{'::'.join(place)} is nested more than {_MAX_DEPTH} levels deep. Write the values.")
        if isinstance(value, list):
            parts = enumerate(value)
            return [self.value(part, (*place, str(key)), followed, depth + 1) for key, part in parts]
        if isinstance(value, dict):
            items = value.items()
            return {key: self.value(part, (*place, str(key)), followed, depth + 1) for key, part in items}
        found = _REFERENCE.fullmatch(value.replace("#", "::")) if isinstance(value, str) else None
        if found is None:
            return value
        levels_up = len(found[1]) // 2
        target = (*(place[:-levels_up] if levels_up else ()), *found[2].split("::"))
        self._followed += 1
        if target in followed or self._followed > _MAX_FOLLOWED:
            raise ValueError(f"The configurations refer to {value} in a circle. Write the value.")
        return self.value(self._at(target, value), target, (*followed, target), depth + 1)

    def _at(self, place: Place, reference: str) -> Any:
        found: Any = self.settings
        for name in place:
            try:
                found = found[int(name)] if isinstance(found, list) else found[name]
            except (KeyError, IndexError, ValueError, TypeError):
                raise ValueError(
                    f"The configurations refer to {reference}, which they do not define. Add it to one of them."
                ) from None
        return found


def is_disabled(entry: Mapping[str, Any]) -> bool:
    """Whether MONAI leaves out a component."""
    return str(entry.get("_disabled_", False)).strip().lower() not in ("false", "0")


def unevaluated(value: Any) -> bool:
    """Whether a value holds expressions, or references and copies in a form that is not followed."""
    if isinstance(value, dict | list):
        return any(map(unevaluated, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and value.startswith(("$", "@", "%"))
