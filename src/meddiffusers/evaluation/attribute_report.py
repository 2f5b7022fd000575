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

from meddiffusers.data.measures import Measure
from meddiffusers.evaluation.calibration import measured_images
from meddiffusers.evaluation.disentanglement import disentanglement
from meddiffusers.evaluation.panels import heatmap, panel
from meddiffusers.evaluation.reconstruction import pixel_agreement
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric, run_facts
from meddiffusers.evaluation.traversal import Traversal, traverse_dimensions
from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline

TRAVERSED = 100  # images of the traversal
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
    absent = [name for name in names if measure is not None and name not in measure.units]
    if measure is not None and absent:
        raise ValueError(
            f"The model's attributes are {', '.join(names)}; the measure gives {', '.join(measure.units)}, so "
            f"{', '.join(absent)} cannot be measured. Choose another measure."
        )
    means = pipeline.encode(images).cpu().numpy()
    rng = np.random.default_rng(seed)
    metrics = [Metric.single("pixel agreement", _agreement(pipeline, images), dataset, len(images))]
    details: dict[str, object] = {"latents": "posterior means"}
    sweep = None
    if names:
        metrics += _latent_metrics(means, attributes, names, dataset, details)
    if names and measure is not None:
        shown, edited = rng.permutation(len(images))[:TRAVERSED], rng.permutation(len(images))[:EDITED]
        sweep = _sweep(pipeline, means[shown], measure)
        details["leakage"] = sweep.leakage.round(3).tolist()
        for name, rho in zip(names, sweep.spearman, strict=True):
            metrics.append(Metric.single(f"traversal Spearman, {name}", rho, dataset, len(shown)))
        for name, error in _edit_errors(pipeline, images[edited], attributes, measure, rng).items():
            metrics.append(Metric.single(f"edit error, {name} [{measure.units[name]}]", error, dataset, len(edited)))
    return Report(metrics, run_facts(seed), details, _pictures(pipeline, images, sweep))


def _latent_metrics(
    means: np.ndarray, attributes: np.ndarray, names: Sequence[str], dataset: str, details: dict[str, object]
) -> list[Metric]:
    scores = disentanglement(means, attributes, names)
    details |= {"per_attribute": scores["per_attribute"], "left_out": scores["dropped"]}
    titles = {
        "interpretability": "interpretability",
        "SCC": "scc",
        "modularity, all dimensions": "modularity",
        "modularity, regularised dimensions": "modularity_regularised",
        "MIG": "mig",
        "SAP": "sap",
    }
    values: dict[str, Any] = {title: scores[key] for title, key in titles.items()}
    spreads = means[:, : len(names)].std(axis=0)
    values |= {f"σ of {name}'s dimension": spread for name, spread in zip(names, spreads, strict=True)}
    return [Metric.single(title, float(value), dataset, len(means)) for title, value in values.items()]


def _sweep(pipeline: AttributeVAEPipeline, means: np.ndarray, measure: Measure) -> Traversal:
    order = [list(measure.units).index(name) for name in pipeline.attributes]

    def decode(latents: np.ndarray) -> np.ndarray:
        return measured_images(pipeline.decode(torch.from_numpy(latents), output_type="np").images)

    return traverse_dimensions(decode, means, lambda decoded: measure.function(decoded)[:, order], dims=len(order))


def _agreement(pipeline: AttributeVAEPipeline, images: torch.Tensor) -> float:
    rebuilt = pipeline.reconstruct(images, output_type="pt").images.cpu()
    if pipeline.vae.config["likelihood"] == "categorical":
        return float((rebuilt == images).float().mean())
    low, high = pipeline.vae.config["value_range"]
    return pixel_agreement(rebuilt.float().numpy(), pipeline.preprocess(images).numpy(), (low + high) / 2)


def _edit_errors(
    pipeline: AttributeVAEPipeline,
    images: torch.Tensor,
    attributes: np.ndarray,
    measure: Measure,
    rng: np.random.Generator,
) -> dict[str, float]:
    errors = {}
    for dimension, name in enumerate(pipeline.attributes):
        curve = pipeline.vae.calibration_of(name)["values"]
        asked = np.clip(rng.choice(attributes[:, dimension], len(images)), curve[0], curve[-1])
        edited = pipeline.edit(images, {name: asked.tolist()}, output_type="np").images
        got = measure.function(measured_images(edited))[:, list(measure.units).index(name)]
        errors[name] = float(np.nanmean(np.abs(got - asked)))
    return errors


def _pictures(
    pipeline: AttributeVAEPipeline, images: torch.Tensor, sweep: Traversal | None
) -> dict[str, PIL.Image.Image]:
    """Panels: reconstructions, samples and interpolations; a traversal of each attribute; the leakage matrix."""
    shown = images[:: max(1, len(images) // SHOWN)][:SHOWN]
    ends = {"a": shown[:1], "b": shown[-1:]}
    rows = {
        "image": list(pipeline.preprocess(shown).permute(0, 2, 3, 1).numpy()),
        "reconstruction": pipeline.reconstruct(shown, output_type="np").images,
        "sample": pipeline.sample(SHOWN, torch.Generator().manual_seed(0), output_type="np").images,
        "linear": pipeline.interpolate(**ends, steps=SHOWN, output_type="np").images,
        "spherical": pipeline.interpolate(**ends, steps=SHOWN, method="spherical", output_type="np").images,
    }
    pictures = {"Held-out images, reconstructions, samples of the prior, and two interpolations": panel(rows)}
    if sweep is None:
        return pictures
    swept, titles = {}, {}
    for name in pipeline.attributes:
        curve = pipeline.vae.calibration_of(name)
        swept[name] = pipeline.traverse(shown[:1], name, steps=SHOWN, output_type="np").images
        values = np.linspace(curve["values"][0], curve["values"][-1], SHOWN)
        titles[name] = [f"{value:.3g} {curve['unit']}" for value in values]
    pictures["One held-out image with each attribute swept over its calibrated range"] = panel(swept, titles)
    caption = "Change of each attribute (column), in its own σ, over a ±2σ sweep of each dimension (row)"
    pictures[caption] = heatmap(sweep.leakage, pipeline.attributes, pipeline.attributes, caption)
    return pictures
