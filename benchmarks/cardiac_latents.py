"""Correspondence of the seven regularised latent dimensions to their attributes, on frames of unseen phantoms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meddiffusers import AttributeVAEPipeline
from meddiffusers.datasets.attribute_images import AttributeImages, load_attribute_images
from meddiffusers.datasets.attribute_measures import get_measure
from meddiffusers.datasets.cardiac_sequences import CARDIAC_PHANTOM
from meddiffusers.evaluation.attributes.report import evaluate_attributes
from meddiffusers.evaluation.results import Bar
from meddiffusers.hub.load import load

SEQUENCES = 1000  # for training; the test split has a tenth as many


def latents(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """Return the bars, and all metrics."""
    repository = load(checkpoint)
    pipeline = AttributeVAEPipeline.from_pipe(repository)
    spacing = repository.config["spacing"]
    data = load_attribute_images(
        CARDIAC_PHANTOM,
        attributes=pipeline.attributes,
        size=pipeline.vae.image_size[0],
        spacing=spacing,
        sequences=SEQUENCES,
        seed=seed,
    )
    images = AttributeImages(data["test"], pipeline.attributes, "image", channels=None)
    report = evaluate_attributes(
        pipeline, images.images, images.attributes, get_measure("cardiac", spacing), dataset="phantom, unseen"
    )
    values = report.values
    bars = [
        Bar("latents: interpretability", values["interpretability"], ">=", 0.90),
        Bar("latents: SCC", values["scc"], ">=", 0.95),
    ]
    return bars, {"n": SEQUENCES // 10, "images": len(images), "values": values}
