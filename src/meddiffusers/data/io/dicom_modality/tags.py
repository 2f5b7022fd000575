"""Values of DICOM tags, also of those in the functional groups of enhanced files."""

from __future__ import annotations

from typing import Any


def values_in(dataset: Any, *keywords: str) -> list[Any]:
    """Values of the first keyword that the data set, or the groups of an enhanced file's first frame, has."""
    groups = [dataset]
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for sequence in list(dataset.get(name) or [])[:1]:
            groups += [item for element in sequence if element.VR == "SQ" for item in list(element.value)[:1]]
    for keyword in keywords:
        for group in groups:
            value = group.get(keyword)
            if value is not None and value != "":
                multiple = not isinstance(value, str | bytes) and hasattr(value, "__iter__")
                return list(value) if multiple else [value]
    return []


def number_in(dataset: Any, *keywords: str) -> float | None:
    """The first of those values as a number; None if there is none."""
    try:
        return float(values_in(dataset, *keywords)[0])
    except (IndexError, TypeError, ValueError):
        return None
