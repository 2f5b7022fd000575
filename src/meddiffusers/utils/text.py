"""Format lists in messages."""

from __future__ import annotations

from collections.abc import Iterable


def bullets(lines: Iterable[object]) -> str:
    """One indented bullet point per item."""
    return "\n".join(f"  - {line}" for line in lines)


def some_of(names: Iterable[str], most: int = 5) -> str:
    """The names sorted and joined, abbreviated to the first `most`."""
    names = sorted(names)
    more = f", … ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more
