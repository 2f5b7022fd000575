"""Checkpoints on disk: `output_dir/checkpoint-{step}`, each complete or absent.

A checkpoint is written to a hidden folder beside it, flushed to the disk and renamed. Only then are the oldest ones
deleted, which are renamed before their files are removed. A folder of this name is therefore always complete, and the
earlier checkpoints remain until the new one is. The content of a checkpoint is defined in `state.py`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from meddiffusers.utils.reading import FileContentError


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, read or found."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints under `root`, of which the newest `limit` are kept (None: all)."""

    root: Path
    limit: int | None = None

    def complete(self) -> list[Path]:
        """The complete checkpoints, oldest first."""
        named = [path for path in self.root.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
        return sorted(named, key=step_of)

    def find(self, name: str | None) -> Path | None:
        """The checkpoint to resume from: None without a name, the newest (if any) for 'latest', else that folder.

        Raises:
            CheckpointError: There is no such folder, or `root` has newer checkpoints than this one. Those belong to
                another run, and a later 'latest' would resume from them.
        """
        found = self._named(name)
        newer = [path.name for path in self.complete() if found is None or step_of(path) > step_of(found)]
        if newer:
            raise CheckpointError(
                f"'{self.root}' holds {', '.join(newer)} of an earlier run, and this one would start "
                f"{f'from {found.name}' if found else 'anew'}. Give --resume_from_checkpoint latest to go on with the "
                "earlier run, or another --output_dir, or move these checkpoints away."
            )
        return found

    def write(self, step: int, fill: Callable[[Path], None]) -> Path:
        """Write a checkpoint, then delete the oldest ones beyond the limit.

        Args:
            step: The optimiser step.
            fill: Called with an empty folder, into which it writes the files of the checkpoint.

        Raises:
            CheckpointError: Writing failed; earlier checkpoints are not changed.
        """
        final = self.root / f"checkpoint-{step}"
        partial = _hidden(final)
        try:
            partial.mkdir(parents=True)
            fill(partial)
            _flush(partial)
            partial.rename(final)
        except Exception as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise CheckpointError(self._write_failure(final, error)) from error
        for old in self.complete()[: -self.limit] if self.limit else []:
            shutil.rmtree(old.rename(_hidden(old)))
        return final

    def remove_partial(self) -> None:
        """Delete the remains of a run that was killed while writing; call it before training, from one process."""
        for path in self.root.glob(".checkpoint-*.partial"):
            shutil.rmtree(path)

    def require_space(self, nbytes: int) -> None:
        """Check that the disk has space for the checkpoints to come, of `nbytes` each.

        With a limit there are temporarily limit + 1 of them; without one, only the next is checked.

        Raises:
            CheckpointError: There is not enough space.
        """
        copies = max(1, self.limit + 1 - len(self.complete())) if self.limit else 1
        free = shutil.disk_usage(_existing(self.root)).free
        if copies * nbytes > free:
            raise CheckpointError(
                f"The checkpoints need about {_size(copies * nbytes)} ({copies} of {_size(nbytes)}), and "
                f"{_size(free)} are free under '{self.root}'. Free some space, lower --checkpoints_total_limit, or "
                "choose an --output_dir on another disk."
            )

    def _named(self, name: str | None) -> Path | None:
        complete = self.complete()
        if name is None or name == "latest":
            return complete[-1] if name and complete else None
        for path in (Path(name), self.root / name):
            if path in complete or (path.is_dir() and path.name.removeprefix("checkpoint-").isdigit()):
                return path
        there = ", ".join(path.name for path in complete) or "none"
        raise CheckpointError(
            f"There is no checkpoint '{name}'; expected 'latest' or a folder checkpoint-STEP. "
            f"Under '{self.root}' there are: {there}."
        )

    def _write_failure(self, final: Path, error: Exception) -> str:
        complete = self.complete()
        kept = f"The last good checkpoint is '{complete[-1]}'" if complete else "There is no earlier checkpoint"
        free = _size(shutil.disk_usage(_existing(self.root)).free)
        return (
            f"'{final}' could not be written: {error}. {free} are free there. {kept}; nothing was deleted. Free some "
            "space or lower --checkpoints_total_limit, then go on with --resume_from_checkpoint latest."
        )


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn any failure to read `file`, a part of a checkpoint, into a CheckpointError that names it."""
    try:
        yield
    except Exception as error:
        reason = error.cause if isinstance(error, FileContentError) else " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"'{file}' cannot be read: {reason.rstrip('.')}. The checkpoint is damaged, or was made for another "
            "network; move it away and resume from an earlier one."
        ) from error


def step_of(checkpoint: Path) -> int:
    """The optimiser step at which a checkpoint was written."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _hidden(checkpoint: Path) -> Path:
    return checkpoint.with_name(f".{checkpoint.name}.partial")


def _flush(folder: Path) -> None:
    """Flush the files to the disk, so that a full or failing disk is noticed before the checkpoint is renamed."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def _size(nbytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    return f"{nbytes:.3g} TB"
