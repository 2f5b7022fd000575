"""Saves the pipeline into the output folder, beside checkpoints and logs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path


def save_over_earlier(save: Callable[[Path], object], folder: Path) -> None:
    """Call `save` with a hidden folder, then move its files over those of an earlier save, one by one."""
    partial = folder / ".pipeline.partial"
    shutil.rmtree(partial, ignore_errors=True)
    save(partial)
    for file in [path for path in partial.rglob("*") if path.is_file()]:
        target = folder / file.relative_to(partial)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
    shutil.rmtree(partial)
