"""Lists of names in messages."""

from __future__ import annotations

from collections.abc import Iterable


def bullets(lines: Iterable[object]) -> str:
    """One line for each thing, indented."""
    return "\n".join(f"  - {line}" for line in lines)


def some_of(names: Iterable[str], most: int = 5) -> str:
    """The names in order, the first few of them where there are many."""
    names = sorted(names)
    more = f", … ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more
