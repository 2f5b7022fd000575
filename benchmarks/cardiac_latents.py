"""How far each of the seven latent dimensions is its attribute, on frames of unseen phantoms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meddiffusers import AttributeVAEPipeline
from meddiffusers.datasets.attribute_images import AttributeImages, load_attribute_images
from meddiffusers.datasets.attribute_measures import get_measure
from meddiffusers.evaluation.attributes.report import evaluate_attributes
from meddiffusers.evaluation.results import Bar
from meddiffusers.hub.load import load

SEQUENCES = 1000  # of which a tenth is held out: those that "test" starts with


def latents(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """The bars, and all metrics."""
    repairer: Any = load(checkpoint)
    pipeline = AttributeVAEPipeline.from_pipe(repairer)
    spacing = repairer.config["spacing"]
    data = load_attribute_images(
        "hearts",
        attributes=pipeline.attributes,
        size=pipeline.vae.image_size[0],
        spacing=spacing,
        sequences=SEQUENCES,
        seed=seed,
    )
    images = AttributeImages(data["test"], pipeline.attributes, "image", labels=True)
    report = evaluate_attributes(
        pipeline, images.images, images.attributes, get_measure("hearts", spacing), dataset="phantom, unseen"
    )
    values = {metric.name: metric.value for metric in report.metrics}
    bars = [
        Bar("latents: interpretability", values["interpretability"], ">=", 0.90),
        Bar("latents: SCC", values["SCC"], ">=", 0.95),
    ]
    return bars, {"n": SEQUENCES // 10, "images": len(images), "values": values}
