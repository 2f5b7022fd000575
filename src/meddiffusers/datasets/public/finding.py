"""Index the files of a data set's folder without opening any scan."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meddiffusers.datasets.public.errors import Issue

SCAN = re.compile(r"(?P<stem>.+)\.(nii|nii\.gz|hdr)", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """A row of the data set to be.

    Attributes:
        subject: the patient; all rows of a patient stay in one split.
        name: of this row, for messages and for its order.
        scans: paths by column, None if there is no scan.
        record: metadata by column.
        label_values: values that label maps may have, by column. They are checked even without `verify`, as what a
            value means depends on them.
    """

    subject: str
    name: str
    scans: Mapping[str, Path | None]
    record: Mapping[str, Any] = field(default_factory=dict)
    label_values: Mapping[str, Collection[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Index:
    """The rows of a folder, the issues found so far, and notes on irregularities that exclude no subject."""

    folder: Path
    rows: list[Row] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def single(self, subject: str, what: str, paths: Sequence[Path], *, needed: bool = False) -> Path | None:
        """Return the single path; add an issue of the subject if there are several, or none although it is needed."""
        if len(paths) > 1:
            names = ", ".join(str(path.relative_to(self.folder)) for path in paths)
            self.issues.append(Issue(subject, f"{len(paths)} of {what} ({names}); expected one: remove the others"))
        if needed and not paths:
            self.issues.append(Issue(subject, f"no {what}; expected one file: download it again"))
        return paths[0] if paths else None

    def require_rows(self, layout: str, example: str) -> None:
        """Raise ValueError that describes the layout if there are no rows."""
        if not self.rows:
            reason = "holds no scans" if self.folder.is_dir() else "is no folder"
            raise ValueError(
                f"{self.folder} {reason} in the layout of {layout}; expected files such as {example}. "
                "Give the folder that was downloaded, unpacked and with its names unchanged."
            )


def below(folder: Path) -> list[Path]:
    """All files and folders at any depth, sorted, except hidden ones, those in hidden folders, and pipes."""
    names = ((path, path.relative_to(folder).parts) for path in folder.rglob("*") if path.is_file() or path.is_dir())
    return sorted(path for path, parts in names if not any(part.startswith(".") for part in parts))


def folders_named(folder: Path, pattern: str) -> dict[str, list[Path]]:
    """Folders at any depth, including `folder` itself, whose name matches completely; by name, sorted."""
    named: dict[str, list[Path]] = {}
    for path in (folder, *below(folder)):
        if re.fullmatch(pattern, path.name) and path.is_dir():
            named.setdefault(path.name, []).append(path)
    return dict(sorted(named.items()))


def scans_named(folder: Path, pattern: str) -> list[Path]:
    """NIfTI files and Analyze headers at any depth whose name without suffix matches completely, sorted by path."""
    named = ((path, SCAN.fullmatch(path.name)) for path in below(folder))
    return [path for path, name in named if name and re.fullmatch(pattern, name["stem"])]


def scans_by(folder: Path, pattern: re.Pattern[str], columns: Mapping[str, str]) -> dict[str, dict[str, list[Path]]]:
    """Files at any depth whose name matches completely, by the pattern's group `owner`, then by column.

    Args:
        folder: to search.
        pattern: with the groups `owner` and `modality`.
        columns: column for each value of the group `modality`.
    """
    files: dict[str, dict[str, list[Path]]] = {}
    for path in below(folder):
        if name := pattern.fullmatch(path.name):
            files.setdefault(name["owner"], {}).setdefault(columns[name["modality"]], []).append(path)
    return files
