"""A text-to-MR pipeline on held-out rows: prompts of them, images of the prompts, the same in other modalities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import datasets
import numpy as np

from meddiffusers.data.prompts import SliceFacts, write_prompt_within
from meddiffusers.datasets.captioned_slices import facts_of
from meddiffusers.datasets.rows import images_of
from meddiffusers.utils.seeds import sample_generators

BATCH = 16  # images that are drawn at once


def targets_of(rows: datasets.Dataset) -> list[SliceFacts]:
    """What prompts of rows, as `data.text_slices` has them, say."""
    return [facts_of(row) for row in rows.select_columns(["facts"])]


def prompts_of(pipeline: Any, asked: Sequence[SliceFacts]) -> list[str]:
    """One of each, that the pipeline's text encoder takes; in which words follows from its number."""
    return [
        write_prompt_within(facts, pipeline.tokenizer, pipeline.max_tokens, seed=number)
        for number, facts in enumerate(asked)
    ]


def in_modality(asked: Sequence[SliceFacts], modality: str) -> list[SliceFacts]:
    """The same slices in another modality."""
    return [replace(facts, modality=modality) for facts in asked]


def generate_from_prompts(pipeline: Any, texts: Sequence[str], seed: int = 0, **settings: Any) -> np.ndarray:
    """Images (N, H, W) in [0, 1] of texts, each from a generator of its own, which its number gives."""
    parts = []
    for first in range(0, len(texts), BATCH):
        part = texts[first : first + BATCH]
        generators = sample_generators(seed, len(part), first)
        parts.append(pipeline(part, generator=generators, output_type="pt", **settings).images.float().cpu().numpy())
    return np.concatenate(parts)[:, 0]


def real_images(rows: datasets.Dataset) -> np.ndarray:
    """(N, H, W) float32 in [0, 1]."""
    return images_of(rows)[:, 0]
