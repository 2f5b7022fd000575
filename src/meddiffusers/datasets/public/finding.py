"""What the folder of a set is found to hold, before any scan is opened."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meddiffusers.datasets.public.errors import Issue

SCAN = re.compile(r"(?P<stem>.+)\.(nii|nii\.gz|hdr)", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """A row to be: the scans by column, None where there is none, and what else is known by column.

    subject: the patient, of whom all rows stay in one split; name: of this row, for messages and for its order.
    """

    subject: str
    name: str
    scans: Mapping[str, Path | None]
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Index:
    """The rows of a folder, the issues seen so far, and notes: what is odd but keeps no subject out."""

    folder: Path
    rows: list[Row] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def only(self, subject: str, what: str, paths: Sequence[Path], *, needed: bool = False) -> Path | None:
        """The one of `paths`; a issue of the subject where there are several, or none but one must be."""
        if len(paths) > 1:
            names = ", ".join(str(path.relative_to(self.folder)) for path in paths)
            self.issues.append(Issue(subject, f"{len(paths)} of {what} ({names}); expected one: remove the others"))
        if needed and not paths:
            self.issues.append(Issue(subject, f"no {what}; expected one file: download it again"))
        return paths[0] if paths else None

    def require_rows(self, layout: str, example: str) -> None:
        """ValueError that shows the layout, where nothing of it was found."""
        if not self.rows:
            reason = "holds no scans" if self.folder.is_dir() else "is no folder"
            raise ValueError(
                f"{self.folder} {reason} in the layout of {layout}; expected files such as {example}. "
                "Give the folder that was downloaded, unpacked and with its names unchanged."
            )


def below(folder: Path) -> list[Path]:
    """All files and folders at any depth, ordered, but those that are hidden or inside a hidden folder."""
    names = ((path, path.relative_to(folder).parts) for path in folder.rglob("*"))
    return sorted(path for path, parts in names if not any(part.startswith(".") for part in parts))


def folders_named(folder: Path, pattern: str) -> dict[str, list[Path]]:
    """Folders at any depth, and `folder` itself, whose whole name matches, by that name and ordered."""
    named: dict[str, list[Path]] = {}
    for path in (folder, *below(folder)):
        if re.fullmatch(pattern, path.name) and path.is_dir():
            named.setdefault(path.name, []).append(path)
    return dict(sorted(named.items()))


def scans_named(folder: Path, pattern: str) -> list[Path]:
    """NIfTI files and Analyze headers at any depth whose whole name before the ending matches, ordered by path."""
    named = ((path, SCAN.fullmatch(path.name)) for path in below(folder))
    return [path for path, name in named if name and re.fullmatch(pattern, name["stem"])]


def scans_by(folder: Path, pattern: re.Pattern[str], columns: Mapping[str, str]) -> dict[str, dict[str, list[Path]]]:
    """Files at any depth whose whole name matches, by the pattern's group `owner`, then by column.

    columns: the name of the column for each value of the pattern's group `modality`.
    """
    files: dict[str, dict[str, list[Path]]] = {}
    for path in below(folder):
        if name := pattern.fullmatch(path.name):
            files.setdefault(name["owner"], {}).setdefault(columns[name["modality"]], []).append(path)
    return files
