"""The trained pipeline, saved in the root of the output folder, beside checkpoints and logs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline


def save_over_earlier(pipeline: DiffusionPipeline, folder: Path) -> None:
    """Saves ``pipeline`` whole in a hidden folder, then moves its files over those of an earlier save, one by one."""
    partial = folder / ".pipeline.partial"
    shutil.rmtree(partial, ignore_errors=True)
    pipeline.save_pretrained(partial)
    for file in [path for path in partial.rglob("*") if path.is_file()]:
        target = folder / file.relative_to(partial)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
    shutil.rmtree(partial)
