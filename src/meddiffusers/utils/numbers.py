"""Numbers in texts, as files and tables write them."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|nan|inf(?:inity)?)", re.ASCII | re.IGNORECASE)


def parse_number(text: str) -> float:
    """The number that a text is, NaN and infinity included; blanks around it do not count.

    Raises:
        ValueError: other texts, among them those that only Python takes for numbers, such as "1_0".

    Example:
        >>> parse_number(" 1.5e3 ")
        1500.0
    """
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError("a text that is no number; expected one such as 0.8")
    return float(text)
