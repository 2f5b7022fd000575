"""Everything that is measured of a VAE on held-out images, with its attributes if it has any.

Latents are posterior means. What needs measuring decoded images (traversals, edits) is left out where no measure is
given. Edits ask for the attribute values of other held-out images, kept inside the calibrated range; the error is the
mean absolute difference between what was asked for and what the decoded image measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch

from meddiffusers.datasets.attribute_measures import Measure
from meddiffusers.evaluation.attributes.batched import BATCH, decoded, measurable, posterior_means
from meddiffusers.evaluation.attributes.traversal import Traversal, traverse_dimensions
from meddiffusers.evaluation.figures.panels import heatmap, panel
from meddiffusers.evaluation.metrics.disentanglement import disentanglement
from meddiffusers.evaluation.metrics.reconstruction import pixel_agreement
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric, run_facts
from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline

TRAVERSED = 200  # images of the traversal
EDITED = 300  # images of the edits
SHOWN = 10


def evaluate_attributes(
    pipeline: AttributeVAEPipeline,
    images: torch.Tensor,
    attributes: np.ndarray,
    measure: Measure | None,
    *,
    dataset: str,
    seed: int = 0,
) -> Report:
    """Measure the pipeline on images (N, C, H, W), as `AttributeImages` holds them, with attributes (N, A).

    Raises:
        ValueError: the pipeline has attributes that the measure does not give.
    """
    names = pipeline.attributes
    _check_measure(names, measure)
    means = posterior_means(pipeline, images)
    rng = np.random.default_rng(seed)
    metrics = [Metric.single("pixel agreement", _agreement(pipeline, images), dataset, len(images))]
    details: dict[str, object] = {"latents": "posterior means"}
    sweep = None
    if len(names) > 1:  # disentanglement compares attributes
        metrics += _disentanglement_metrics(means, attributes, names, dataset, details)
    for name, spread in zip(names, means.std(axis=0)[: len(names)], strict=True):
        metrics.append(Metric.single(f"σ of {name}'s dimension", spread, dataset, len(images)))
    if names and measure is not None:
        shown, edited = rng.permutation(len(images))[:TRAVERSED], rng.permutation(len(images))[:EDITED]
        sweep = _sweep(pipeline, means[shown], measure)
        details["leakage"] = sweep.leakage.round(3).tolist()
        for name, rho in zip(names, sweep.spearman, strict=True):
            metrics.append(Metric.single(f"traversal Spearman, {name}", rho, dataset, len(shown)))
        for name, error in _edit_errors(pipeline, images[edited], attributes, measure, rng).items():
            metrics.append(Metric.single(f"edit error, {name} [{measure.units[name]}]", error, dataset, len(edited)))
    return Report(metrics, run_facts(seed), details, _figures(pipeline, images, sweep))


def _check_measure(names: Sequence[str], measure: Measure | None) -> None:
    absent = [name for name in names if measure is not None and name not in measure.units]
    if measure is not None and absent:
        raise ValueError(
            f"The model's attributes are {', '.join(names)}; the measure gives {', '.join(measure.units)}, so "
            f"{', '.join(absent)} cannot be measured. Choose another measure, or none."
        )


def _calibration(pipeline: AttributeVAEPipeline) -> dict[str, dict[str, Any]]:
    """The curves there are, in the order of the attributes."""
    curves = pipeline.vae.config["calibration"] or {}
    return {name: curves[name] for name in pipeline.attributes if name in curves}


def _disentanglement_metrics(
    means: np.ndarray, attributes: np.ndarray, names: Sequence[str], dataset: str, details: dict[str, object]
) -> list[Metric]:
    scores: dict[str, Any] = disentanglement(means, attributes, names)
    details |= {"per_attribute": scores["per_attribute"], "left_out": scores["dropped"]}
    titles = {
        "interpretability": "interpretability",
        "SCC": "scc",
        "modularity, all dimensions": "modularity",
        "modularity, regularised dimensions": "modularity_regularised",
        "MIG": "mig",
        "SAP": "sap",
    }
    return [Metric.single(title, scores[key], dataset, len(means)) for title, key in titles.items()]


def _sweep(pipeline: AttributeVAEPipeline, means: np.ndarray, measure: Measure) -> Traversal:
    order = [list(measure.units).index(name) for name in pipeline.attributes]
    return traverse_dimensions(
        lambda latents: decoded(pipeline, latents), means, lambda images: measure.function(images)[:, order], len(order)
    )


def _agreement(pipeline: AttributeVAEPipeline, images: torch.Tensor) -> float:
    """Pixel agreement, at the middle of the value range, or the fraction of pixels that keep their label."""
    agreeing = 0.0
    for batch in images.split(BATCH):
        rebuilt = pipeline.reconstruct(batch, output_type="pt").images.float().cpu().numpy()
        if pipeline.vae.config["likelihood"] == "categorical":
            agreeing += float((rebuilt == batch.numpy()).mean()) * len(batch)
        else:
            middle = sum(pipeline.vae.config["value_range"]) / 2
            agreeing += pixel_agreement(rebuilt, pipeline.preprocess(batch).numpy(), middle) * len(batch)
    return agreeing / len(images)


def _edit_errors(
    pipeline: AttributeVAEPipeline,
    images: torch.Tensor,
    attributes: np.ndarray,
    measure: Measure,
    rng: np.random.Generator,
) -> dict[str, float]:
    errors = {}
    for name, curve in _calibration(pipeline).items():
        dimension, values = pipeline.attributes.index(name), curve["values"]
        asked = np.clip(rng.choice(attributes[:, dimension], len(images)), values[0], values[-1])
        edited = pipeline.edit(images, {name: asked.tolist()}, output_type="np").images
        got = measure.function(measurable(pipeline, edited))[:, list(measure.units).index(name)]
        errors[name] = float(np.nanmean(np.abs(got - asked)))
    return errors


def _figures(
    pipeline: AttributeVAEPipeline, images: torch.Tensor, sweep: Traversal | None
) -> dict[str, PIL.Image.Image]:
    """Panels: reconstructions, samples and interpolations; a traversal of each attribute; the leakage matrix."""
    shown = images[:: max(1, len(images) // SHOWN)][:SHOWN]
    ends = {"a": shown[:1], "b": shown[-1:]}
    rows = {
        "image": (shown if shown.ndim == 3 else shown.permute(0, 2, 3, 1)).numpy(),
        "reconstruction": pipeline.reconstruct(shown, output_type="np").images,
        "sample": pipeline.sample(SHOWN, torch.Generator().manual_seed(0), output_type="np").images,
        "linear": pipeline.interpolate(**ends, steps=SHOWN, output_type="np").images,
        "spherical": pipeline.interpolate(**ends, steps=SHOWN, method="spherical", output_type="np").images,
    }
    figures = {
        "Held-out images, their reconstructions, samples, and two ways from the first image to the last": panel(rows)
    }
    if _calibration(pipeline):
        figures["One held-out image with each attribute swept over its calibrated range"] = _traversals(
            pipeline, shown[len(shown) // 2][None]
        )
    if sweep is not None:
        caption = "Change of each attribute, in its own σ, over a ±2σ sweep of each attribute's dimension"
        figures[caption] = heatmap(
            sweep.leakage, pipeline.attributes, pipeline.attributes, down="dimension swept", across="attribute measured"
        )
    return figures


def _traversals(pipeline: AttributeVAEPipeline, image: torch.Tensor) -> PIL.Image.Image:
    rows, titles = {}, {}
    for name, curve in _calibration(pipeline).items():
        rows[name] = pipeline.traverse(image, name, steps=SHOWN, output_type="np").images
        values = np.linspace(curve["values"][0], curve["values"][-1], SHOWN)
        titles[name] = [f"{value:.3g} {curve['unit']}" for value in values]
    return panel(rows, titles)
