"""Run a segmentation pipeline on the rows of a data set, for its evaluation."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import torch

from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE
from meddiffusers.evaluation.segmentation.result import SegmentationResult
from meddiffusers.pipelines.conditional_segmentation_pipeline import ConditionalSegmentationPipeline
from meddiffusers.utils.seeds import sample_generators

DISPLAYED = ("flair", "t1ce", "t2", "t1")  # figures show the first of these that the data has


def run_segmentation(
    pipeline: ConditionalSegmentationPipeline,
    rows: datasets.Dataset,
    *,
    num_inference_steps: int = 10,
    ensemble_size: int = 5,
    batch_size: int = 32,
    seed: int = 0,
) -> SegmentationResult:
    """Segment labelled slices with an ensemble; with the probability from each source that the pipeline has.

    Args:
        pipeline: The pipeline to run.
        rows: Rows as `datasets.labelled_slices` makes them. Without a column "reference", the first rater is it.
        num_inference_steps: Denoising steps.
        ensemble_size: Samples for each slice.
        batch_size: Slices or samples per network call.
        seed: Seed of the noise; that of row i depends on (seed, i) only.

    Returns:
        Predictions, with the entropy as uncertainty. Distances are in mm if the pipeline knows its spacing, else in
        pixels.
    """
    read = rows.with_format("numpy")[:]
    images = np.stack(read["image"]).astype(np.float32) / INTENSITY_SCALE
    raters = np.stack(read["masks"]).astype(np.uint8)
    reference = np.stack(read["reference"]).astype(np.uint8) if "reference" in read else raters[:, 0]
    outputs = _outputs(
        pipeline,
        torch.from_numpy(images),
        ensemble_size,
        seed,
        num_inference_steps=num_inference_steps,
        batch_size=batch_size,
    )
    output = outputs[pipeline.config["probability_from"]]
    edge = pipeline.config["spacing"] or 1.0
    channel = next((pipeline.modalities.index(name) for name in DISPLAYED if name in pipeline.modalities), 0)
    return SegmentationResult(
        mask=output.mask,
        probability=output.probability,
        uncertainty=output.uncertainty["entropy"],
        samples=outputs["samples"].samples,
        raters=raters,
        reference=reference,
        images=images[:, channel],
        subjects=[str(subject) for subject in read["subject"]],
        spacing=(edge, edge),
        id2label=pipeline.id2label,
        foregrounds={source: 1 - each.probability[:, 0] for source, each in outputs.items()},
    )


def _outputs(
    pipeline: ConditionalSegmentationPipeline, images: torch.Tensor, ensemble_size: int, seed: int, **settings: int
) -> dict[str, Any]:
    """Outputs by `probability_from`; that of "prior" has one member, on which its probability does not depend."""
    sizes = {"samples": ensemble_size}
    if getattr(pipeline.unet, "image_encoder", None) is not None:
        sizes["prior"] = 1
    outputs, chosen = {}, pipeline.config["probability_from"]
    try:
        for source, size in sizes.items():
            pipeline.register_to_config(probability_from=source)
            generators = sample_generators(seed, len(images))
            outputs[source] = pipeline(images, ensemble_size=size, generator=generators, **settings)
    finally:
        pipeline.register_to_config(probability_from=chosen)
    return outputs
