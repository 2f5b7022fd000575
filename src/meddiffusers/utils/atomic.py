"""Atomic writes: files and folders are written under a scratch path, then renamed, so they are complete or absent."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a scratch path for a file or a folder, and rename it to `path` when the block succeeds.

    The scratch path has the same name and lies in a temporary folder beside `path`, so that the rename stays on one
    file system. If the block fails, nothing is left. A file at `path` is replaced; a folder with content is kept, since
    another process that wrote the same folder has finished first.

    Args:
        path: target; missing parent folders are created.

    Yields:
        The scratch path, at which nothing exists yet.

    Raises:
        OSError: the folder of `path` cannot be written; the error names `path`.

    Example:
        >>> with atomic_path("runs/mask.npy") as staged:
        ...     np.save(staged, mask)
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=path.parent, prefix=".", ignore_cleanup_errors=True)
    except OSError as error:  # of a path that nobody gave
        raise OSError(error.errno, f"It cannot be written: {error.strerror}", str(path)) from error
    with folder as scratch:
        staged = Path(scratch, path.name)
        yield staged
        try:
            staged.replace(path)
        except OSError:
            if not (staged.is_dir() and path.is_dir()):
                raise


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as staged:
        staged.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
