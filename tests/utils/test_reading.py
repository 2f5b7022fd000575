"""Bounded reading of text, JSON and YAML: what is read, and what a damaged or hostile file costs."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Any

import pytest

from meddiffusers.utils.reading import MAX_BYTES, MAX_YAML_BYTES, FileContentError, read_json, read_text, read_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}, *{old}, *{old}, *{old}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_what_is_whole_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text('\ufeff{"a": [1, null, "ü"]}', encoding="utf-8")
    assert read_json(file) == read_yaml(file) == {"a": [1, None, "ü"]}
    file.write_text("a: 1e-4\nb: {c: [x, 2.5]}\n# words\n'no': off\n")
    assert read_yaml(file) == {"a": "1e-4", "b": {"c": ["x", 2.5]}, "no": False}
    file.write_text("")
    assert read_yaml(file) is None and read_text(file) == ""
    file.write_text("base: {a: 1}\nmine: {<<: {a: 1, b: 2}, a: 3}\n")
    assert read_yaml(file)["mine"] == {"a": 3, "b": 2}


JSON = {
    "truncated": ('{"a": [1, 2', "is not valid JSON"),
    "empty": ("", "is not valid JSON"),
    "a list": ("[]", "holds a list, expected an object"),
    "nothing": ("null", "holds nothing, expected an object"),
    "a number": ("3", "holds a number, expected an object"),
    "key twice": ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' occurs twice"),
    "deep": ('{"a": ' + "[" * 100 + "]" * 100 + "}", "nested more than 64 levels"),
    "very deep": ("[" * 200_000, "nested more than 64 levels"),
    "long number": ('{"a": ' + "9" * 5000 + "}", "is not valid JSON"),
}
YAML = {
    "alias": ("a: &x [1]\nb: *x\n", r"line 2: aliases .* are not read"),
    "bomb": (BOMB, r"line 2: aliases"),
    "key twice": ("a: 1\nb: 2\na: 3\n", r"line 3: the key a occurs twice"),
    "deep": ("[" * 100 + "]" * 100, "more than 64 levels"),
    "very deep": ("[" * 50_000, "more than 64 levels"),
    "tab": ("a:\n\tb: 1\n", r"line 2: "),
    "unfinished": ("a: [1, 2", r"line 1: "),
    "code": ("a: !!python/object/apply:os.system [true]", r"line 1: could not determine a constructor"),
    "no such day": ("a: 2020-13-45", "is not valid YAML"),
    "no truth": ("a: !!bool perhaps", "is not valid YAML"),
    "control": ("a: \x01", "is not valid YAML"),
}


@pytest.mark.parametrize("text,message", JSON.values(), ids=JSON)
def test_json_that_is_none_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(FileContentError, match=rf"config\.json .*{message}") as error:
        read_json(tmp_path / "config.json")
    assert str(error.value) == f"{tmp_path / 'config.json'} {error.value.cause}"


@pytest.mark.parametrize("text,message", YAML.values(), ids=YAML)
def test_yaml_that_is_none_is_named_at_no_cost(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(FileContentError, match=rf"config\.yaml is not valid YAML .*{message}|{message}"):
        read_yaml(tmp_path / "config.yaml")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("read", [read_text, read_json, read_yaml])
def test_what_is_no_text_file_is_named(tmp_path: Path, read: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "binary").write_bytes(b"{}\xff")
    for name, message in {
        "pipe": "pipe is a pipe; expected a file",
        "link": "link is a pipe; expected a file",
        ".": "is a folder; expected a file",
        "binary": r"binary is not text in UTF-8 \(byte 2\)",
    }.items():
        with pytest.raises(FileContentError, match=message):
            read(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="absent"):
        read(tmp_path / "absent")
    with pytest.raises(FileContentError, match="is a device"):
        read(Path("/dev/zero"))


def test_what_is_too_large_is_named(tmp_path: Path) -> None:
    (tmp_path / "large").write_text(" " * (MAX_YAML_BYTES + 1))
    with pytest.raises(FileContentError, match="large is larger than 1 MiB"):
        read_yaml(tmp_path / "large")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(FileContentError, match="large is larger than 64 MiB"):
        read_json(tmp_path / "large")
