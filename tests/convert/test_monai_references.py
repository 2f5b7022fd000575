"""References of MONAI's configurations: the oracle is MONAI's own ConfigParser."""

from __future__ import annotations

from typing import Any

import pytest
from monai.bundle import ConfigParser

from meddiffusers.convert.monai_references import References, unevaluated

SETTINGS: dict[str, Any] = {
    "dims": 3,
    "same": "@dims",
    "ends": [0.0015, {"high": 0.02}],
    "text": "mail@example",
    "entry": {
        "low": "@ends::0",
        "high": "@ends#1#high",
        "inner": {"beside": "@::other", "above": "@::::low", "other": "@same"},
        "list": ["@dims", ["@same", "@text"]],
        "expression of a reference": "$@dims",
        "copy": "%ends::0",
        "whole": "@ends",
    },
}


@pytest.mark.parametrize("name", ["same", "text", "entry", "entry::inner::beside", "entry::list::1::0"])
def test_values_are_those_of_monai(name: str) -> None:
    place = tuple(name.split("::"))
    value: Any = SETTINGS
    for part in place:
        value = value[int(part)] if isinstance(value, list) else value[part]
    expected = ConfigParser(SETTINGS).get_parsed_content(name)
    assert References(SETTINGS).value(value, place) == expected
    assert not unevaluated(expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"a": "@b"}, r"refer to @b, which they do not define"),
        ({"a": "@b::3", "b": [1]}, r"refer to @b::3, which they do not define"),
        ({"a": "@b::c", "b": 1}, r"refer to @b::c, which they do not define"),
        ({"a": "@a"}, r"refer to @a in a circle"),
        ({"a": {"b": "@c"}, "c": ["@a"]}, r"in a circle"),
        ({"a": "@x0", **{f"x{i}": f"@x{i + 1}" for i in range(5000)}}, r"levels deep"),
        ({"a": "@x0", **{f"x{i}": [f"@x{i + 1}"] * 9 for i in range(20)}, "x20": 1}, r"in a circle"),
    ],
)
def test_references_without_an_end_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        References(settings).value(settings["a"], ("a",))


@pytest.mark.parametrize("value", ["$1 + 1", "$@a + 1", ["$x"], {"a": ["$x"]}, "%other.json::a", "@no-name"])
def test_what_is_not_followed_is_found(value: Any) -> None:
    assert unevaluated(References({"a": 1}).value(value))
