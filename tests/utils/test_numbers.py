from __future__ import annotations

import math

import pytest

from meddiffusers.utils.numbers import parse_number


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1.0), (" -2.5 ", -2.5), ("1e3", 1000.0), ("+.5", 0.5), ("3.", 3.0), ("1.5E-02", 0.015), ("-inf", -math.inf)],
)
def test_numbers_are_read(text: str, number: float) -> None:
    assert parse_number(text) == number
    assert math.isnan(parse_number("NaN"))


@pytest.mark.parametrize("text", ["", "1_0", "0x10", "1,5", "١٢", "1 2", "one", "1e", ".", "--1", "1.2.3"])
def test_other_texts_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="no number; expected one such as"):
        parse_number(text)
