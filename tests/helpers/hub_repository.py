"""A model repository as a small git: commits are immutable trees `{path: bytes}`, named by a hash of what they hold.

Branches and tags are names of commits. Listings are dictionaries in the form in which the Hub's interface speaks of
files and repositories.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

Files = dict[str, bytes]


class UnknownRevisionError(LookupError):
    """No branch, tag or commit has this name."""


def blob_id(data: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass(frozen=True)
class Commit:
    """One state of a repository; `oid` hashes the parent, the title and the files, not the clock."""

    files: Files
    title: str
    parent: str = ""
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"))

    @property
    def oid(self) -> str:
        tree = sorted((path, blob_id(data)) for path, data in self.files.items())
        return hashlib.sha1(json.dumps([self.parent, self.title, tree]).encode()).hexdigest()


class Repository:
    """Commits by id, and the branches and tags that name them. `lfs` holds the suffixes of large files."""

    def __init__(self, repo_id: str, private: bool = False, lfs: tuple[str, ...] = ()) -> None:
        self.repo_id, self.private, self.lfs = repo_id, private, lfs
        self.commits: dict[str, Commit] = {}
        self.branches: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.commit("main", {".gitattributes": b"*.safetensors filter=lfs -text\n"}, "initial commit")

    def commit(self, branch: str, files: Files, title: str) -> str:
        commit = Commit(files, title, parent=self.branches.get(branch, ""))
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit.oid

    def resolve(self, revision: str) -> str:
        """The commit that a branch, a tag or a full commit id names."""
        name = re.sub(r"^refs/(heads|tags)/", "", revision)
        oid = self.branches.get(name) or self.tags.get(name) or (name if name in self.commits else None)
        if oid is None:
            raise UnknownRevisionError(revision)
        return oid

    def files(self, revision: str) -> Files:
        return self.commits[self.resolve(revision)].files

    def history(self, revision: str) -> Iterator[tuple[str, Commit]]:
        oid = self.resolve(revision)
        while oid:
            yield oid, self.commits[oid]
            oid = self.commits[oid].parent

    def describe(self, path: str, data: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": blob_id(data)}
        if path.endswith(self.lfs):
            sha256 = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": sha256, "sha256": sha256, "size": len(data), "pointerSize": 134}
        return entry

    def tree(self, revision: str) -> list[dict[str, Any]]:
        """Every folder and file of a revision, at any depth."""
        files = self.files(revision)
        folders = {str(parent) for path in files for parent in PurePosixPath(path).parents} - {"."}
        listing = [{"type": "directory", "path": path, "size": 0, "oid": blob_id(path.encode())} for path in folders]
        listing += [self.describe(path, data) for path, data in files.items()]
        return sorted(listing, key=lambda entry: entry["path"])

    def info(self, revision: str) -> dict[str, Any]:
        """What `model_info` reads. Card data is left out, since it would need a YAML parser."""
        oid = self.resolve(revision)
        siblings = [
            {"rfilename": entry["path"], "blobId": entry["oid"], "size": entry["size"], "lfs": entry.get("lfs")}
            for entry in self.tree(revision)
            if entry["type"] == "file"
        ]
        return {
            "id": self.repo_id,
            "author": self.repo_id.split("/")[0],
            "sha": oid,
            "private": self.private,
            "gated": False,
            "lastModified": self.commits[oid].date,
            "siblings": siblings,
        }
