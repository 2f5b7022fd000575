"""How repositories and pipelines are compared, in any process: images bit by bit, folders byte by byte.

Imports nothing of meddiffusers: the tests use it where the package is not to be had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

LATENTS = torch.linspace(-2, 2, 12).reshape(4, 3)


def fingerprint(images: np.ndarray) -> str:
    """Equal for images that are equal in every bit."""
    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()[:16]


def decoded(pipeline: Any) -> str:
    """Fingerprint of what an AttributeVAEPipeline decodes from `LATENTS`."""
    return fingerprint(pipeline(latents=LATENTS, output_type="np").images)


def denoised(pipeline: Any) -> str:
    """Fingerprint of the images of a DDPMPipeline in three steps from a fixed seed."""
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    return fingerprint(pipeline(2, generator, num_inference_steps=3, output_type="np").images)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refusal(call: Callable[[], Any]) -> str:
    """What a call that must fail says; empty if it does not fail."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""
