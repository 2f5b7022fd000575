"""Read text, JSON and YAML within bounds, so that a damaged or hostile file costs an error and nothing else.

A file is read only if it is a regular one (a pipe would block) and not too large; nesting is limited, no key occurs
twice, and YAML has no aliases, which can expand to any size.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 64 * 2**20  # tokenizers of large vocabularies take 35 MB
MAX_YAML_BYTES = 2**20
MAX_DEPTH = 64
_KINDS = {dict: "an object", list: "a list"}
_SPECIAL = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


class FileContentError(ValueError):
    """A file does not hold what it should; `cause` says why, without the file's name."""

    def __init__(self, path: str | Path, cause: str) -> None:
        self.path, self.cause = Path(path), cause
        super().__init__(f"{path} {cause}")


def special_kind(path: Path) -> str | None:
    """What a path is, if it is no regular file: "a folder", "a pipe", "a socket" or "a device"."""
    mode = path.stat().st_mode
    return None if stat.S_ISREG(mode) else _SPECIAL.get(stat.S_IFMT(mode), "a device")


def read_text(path: str | Path, max_bytes: int = MAX_BYTES) -> str:
    """Read UTF-8 text.

    Args:
        path: The file.
        max_bytes: Size above which the file is refused.

    Raises:
        FileNotFoundError: There is no such file.
        FileContentError: It is no regular file, too large, or no UTF-8 text.
    """
    path = Path(path)
    if kind := special_kind(path):
        raise FileContentError(path, f"is {kind}; expected a file.")
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise FileContentError(path, f"is larger than {max_bytes / 2**20:g} MiB, more than such a file can need.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileContentError(path, f"is not text in UTF-8 (byte {error.start}). Restore it.") from error


def read_json(path: str | Path, kind: type[dict] | type[list] | None = dict) -> Any:
    """Read JSON.

    Args:
        path: The file.
        kind: Type of the content, `dict` or `list`; None accepts any.

    Raises:
        FileNotFoundError: There is no such file.
        FileContentError: It is not JSON, of another type, too large or too deeply nested.
    """
    text = read_text(path)
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise FileContentError(path, f"is nested more than {MAX_DEPTH} levels deep. Restore it.") from error
    except ValueError as error:
        raise FileContentError(path, f"is not valid JSON ({error}). Restore it.") from error
    if _is_deeper(content, MAX_DEPTH):
        raise FileContentError(path, f"is nested more than {MAX_DEPTH} levels deep. Restore it.")
    if kind is not None and not isinstance(content, kind):
        raise FileContentError(path, f"holds {_a(content)}, expected {_KINDS[kind]}. Restore it.")
    return content


def read_yaml(path: str | Path) -> Any:
    """Read YAML without aliases and repeated keys; None for an empty file.

    Raises:
        FileNotFoundError: There is no such file.
        FileContentError: It is not such YAML, too large or too deeply nested.
    """
    text = read_text(path, MAX_YAML_BYTES)
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise FileContentError(path, f"is not valid YAML ({error}). Correct it.") from error


def parse_yaml(text: str) -> Any:
    """Parse YAML as `read_yaml` does.

    Raises:
        ValueError: It is no such YAML; the message has the line.
    """
    try:
        return yaml.load(text, _BoundedLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ValueError(f"line {mark.line + 1 if mark else 1}: {error.problem or error.context}") from error
    except Exception as error:  # values with explicit tags, such as `!!int x`, fail in many ways
        raise ValueError(str(error).partition("\n")[0]) from error


class _BoundedLoader(yaml.SafeLoader):
    """The safe loader without aliases, repeated keys and deep nesting."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark = self.peek_event().start_mark
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not read; write the value out", problem_mark=mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"more than {MAX_DEPTH} levels", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value} occurs twice", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return content


def _is_deeper(content: Any, depth: int) -> bool:
    """Whether dictionaries and lists are nested in more than `depth` levels."""
    level = [content]
    for _ in range(depth):
        level = [child for each in level for child in _children(each)]
        if not level:
            return False
    return any(isinstance(each, dict | list) for each in level)


def _children(content: Any) -> list[Any]:
    values = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return [value for value in values if isinstance(value, dict | list)]


def _a(content: Any) -> str:
    names = {list: "a list", dict: "an object", str: "text", bool: "true or false", type(None): "nothing"}
    return names.get(type(content), "a number")
