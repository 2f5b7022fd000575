"""Issues of a folder of scans, and the error that reports all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from meddiffusers.utils.text import bullets


class Issue(NamedTuple):
    """A reason why a subject cannot be loaded."""

    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}"


class DatasetError(ValueError):
    """Some scans of a folder cannot be loaded.

    Attributes:
        issues: every issue; the message lists them.
    """

    def __init__(self, folder: Path, issues: Sequence[Issue]) -> None:
        self.issues = tuple(issues)
        super().__init__(
            f"{folder} has {len(issues)} issue{'s' if len(issues) > 1 else ''}:\n{bullets(issues)}\n"
            "Correct them, or set skip_invalid=True to load the other subjects."
        )
