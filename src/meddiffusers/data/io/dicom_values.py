"""Numbers of DICOM headers: finite, as many as expected, and never replaced by a default."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from meddiffusers.data.io.library_errors import UnreadableError
from meddiffusers.utils.numbers import parse_number


def numbers(place: Any, keyword: str, count: int, source: str) -> list[float] | None:
    """The numbers of an element; None if it is missing or empty.

    Args:
        place: data set or item of a sequence.
        keyword: of an element whose value is text, such as "PixelSpacing".
        count: how many are expected.
        source: for messages.

    Raises:
        UnreadableError: another number of values, or values that are no finite numbers; decimal commas are named.
    """
    if keyword not in place:
        return None
    value = place.get_item(keyword).value  # before pydicom converts it, which quotes what it fails on
    text = value.decode("latin-1").strip(" \0") if isinstance(value, bytes) else value
    words = text.split("\\") if isinstance(text, str) else list(text) if isinstance(text, Sequence) else [text]
    if not any(str("" if word is None else word).strip() for word in words):
        return None
    try:
        found = [parse_number(word) if isinstance(word, str) else float(word) for word in words]
    except (ValueError, TypeError):
        comma = "a decimal comma" if any("," in str(word) for word in words) else "text that is no number"
        raise UnreadableError(source, f"{keyword} with {comma}", "numbers such as 0.8", "correct the header") from None
    if len(found) != count or not all(map(math.isfinite, found)):
        values = ", ".join(f"{each:g}" for each in found[:8])
        raise UnreadableError(source, f"{keyword} of {values}", f"{count} finite numbers", "correct the header")
    return found


def number(place: Any, keyword: str, default: float, source: str) -> float:
    """The single number of an element, or the default if it is missing or empty."""
    found = numbers(place, keyword, 1, source)
    return default if found is None else found[0]
