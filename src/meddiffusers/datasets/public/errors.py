"""What is wrong with a folder of scans, said in one report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from meddiffusers.utils.text import bullets


class Issue(NamedTuple):
    """Something that keeps a subject from being loaded."""

    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}"


class DatasetError(ValueError):
    """A folder whose scans cannot all be loaded; `issues` holds every issue, and the message prints them."""

    def __init__(self, folder: Path, issues: Sequence[Issue]) -> None:
        self.issues = tuple(issues)
        super().__init__(
            f"{folder} has {len(issues)} issue{'s' if len(issues) > 1 else ''}:\n{bullets(issues)}\n"
            "Mend them, or set skip_invalid=True to load the other subjects."
        )
