"""Run a text-to-MR pipeline on held-out rows: write their prompts, and generate images from these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import datasets
import numpy as np

from meddiffusers.data.prompts import SliceFacts, write_prompt_within
from meddiffusers.datasets.captioned_slices import facts_of
from meddiffusers.datasets.rows import images_of
from meddiffusers.pipelines.text_to_mr_pipeline import TextToMRPipeline
from meddiffusers.utils.seeds import sample_generators

BATCH = 16  # images per call of the pipeline


def targets_of(rows: datasets.Dataset) -> list[SliceFacts]:
    """The facts that prompts describe, for rows as `datasets.captioned_slices` makes them."""
    return [facts_of(row) for row in rows.select_columns(["facts"])]


def prompts_of(pipeline: TextToMRPipeline, targets: Sequence[SliceFacts]) -> list[str]:
    """Write a prompt for each target that fits the pipeline's text encoder; the wording depends on its index."""
    return [
        write_prompt_within(facts, pipeline.tokenizer, pipeline.max_tokens, seed=i) for i, facts in enumerate(targets)
    ]


def in_modality(targets: Sequence[SliceFacts], modality: str) -> list[SliceFacts]:
    """The same targets in another modality."""
    return [replace(facts, modality=modality) for facts in targets]


def generate_from_prompts(
    pipeline: TextToMRPipeline, prompts: Sequence[str], seed: int = 0, **settings: Any
) -> np.ndarray:
    """Generate one image for each prompt.

    Args:
        pipeline: The pipeline to run.
        prompts: B prompts.
        seed: Seed of the noise; that of image i depends on (seed, i) only.
        **settings: Further arguments of the pipeline.

    Returns:
        (B, H, W) in [0, 1].
    """
    batches = []
    for first in range(0, len(prompts), BATCH):
        batch = prompts[first : first + BATCH]
        generators = sample_generators(seed, len(batch), first)
        output = pipeline(batch, generator=generators, output_type="pt", **settings)
        batches.append(output.images.float().cpu().numpy())
    return np.concatenate(batches)[:, 0]


def real_images(rows: datasets.Dataset) -> np.ndarray:
    """(B, H, W) float32 in [0, 1]."""
    return images_of(rows)[:, 0]
