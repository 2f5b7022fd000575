"""Evaluation of a VAE on held-out images, including its attributes if it has any.

Latents are posterior means. Traversals and edits need a measure of decoded images and are skipped without one. The
targets of edits are the attribute values of other held-out images, clipped to the calibrated range. The edit error is
the mean absolute difference between the target and the value measured on the decoded image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from monai.metrics import compute_dice

from meddiffusers.datasets.attribute_measures import Measure
from meddiffusers.evaluation.attributes.batched import BATCH, decode_latents, posterior_means, to_measure_input
from meddiffusers.evaluation.attributes.traversal import Traversal, traverse_dimensions
from meddiffusers.evaluation.figures.panels import heatmap, panel
from meddiffusers.evaluation.metrics.disentanglement import disentanglement
from meddiffusers.evaluation.metrics.reconstruction import pixel_agreement
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric, metric_key, run_facts
from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline

TRAVERSED = 200  # images for the traversals
EDITED = 300  # images for the edits
SHOWN = 10
LEAST = 4  # images for the mutual information, an estimate by three neighbours


def evaluate_attributes(
    pipeline: AttributeVAEPipeline,
    images: torch.Tensor,
    attributes: np.ndarray,
    measure: Measure | None,
    *,
    dataset: str,
    seed: int = 0,
) -> Report:
    """Evaluate a pipeline on held-out images.

    Args:
        pipeline: The pipeline to evaluate.
        images: Images (B, C, H, W), or label maps (B, H, W), as `AttributeImages` holds them.
        attributes: Their attributes, (B, A), in the order of `pipeline.attributes`.
        measure: Measures the attributes of decoded images; None skips traversals and edits.
        dataset: Name of the data, for the report.
        seed: Seed of the choice of images and targets.

    Returns:
        Metrics, the leakage matrix and the metrics of each attribute in `details`, and figures. With fewer than
        `LEAST` images disentanglement, traversals and edits are left out, which the details say.

    Raises:
        ValueError: The pipeline has attributes that the measure does not provide.
    """
    names = pipeline.attributes
    _check_measure(names, measure)
    means = posterior_means(pipeline, images)
    rng = np.random.default_rng(seed)

    def single(key: str, title: str, value: float, n: int, type: str = "") -> Metric:
        return Metric.single(key, title, value, dataset, n, type=type)

    agreement, dice = _reconstruction_agreement(pipeline, images)
    metrics = [single("pixel_agreement", "Pixel agreement", agreement, len(images), "accuracy")]
    metrics += [
        single(
            f"dice_label_{label}", f"Dice of the reconstruction, label {label}", np.nanmean(values), len(shown), "dice"
        )
        for label, values in enumerate(dice, 1)
        if len(shown := values[np.isfinite(values)])
    ]
    details: dict[str, object] = {"latents": "posterior means"}
    sweep = None
    if len(images) < LEAST:
        details["left out"] = f"disentanglement, traversals and edits: {len(images)} images, fewer than {LEAST}"
        measure = None
    elif len(names) > 1:  # disentanglement metrics compare attributes
        metrics += _disentanglement_metrics(means, attributes, names, dataset, details)
    for name, sigma in zip(names, means.std(axis=0)[: len(names)], strict=True):
        title = f"σ of the latent dimension, {name}"
        metrics.append(single(metric_key("latent_sigma", name), title, sigma, len(images), "latent_sigma"))
    if names and measure is not None:
        shown, edited = rng.permutation(len(images))[:TRAVERSED], rng.permutation(len(images))[:EDITED]
        sweep = _sweep(pipeline, means[shown], measure)
        details["leakage"] = sweep.leakage.round(3).tolist()
        for name, rho in zip(names, sweep.spearman, strict=True):
            title = f"Traversal Spearman correlation, {name}"
            metrics.append(single(metric_key("traversal_spearman", name), title, rho, len(shown), "spearmanr"))
        for name, error in _edit_errors(pipeline, images[edited], attributes, measure, rng).items():
            title = f"Edit error (MAE), {name} [{measure.units[name]}]"
            metrics.append(single(metric_key("edit_mae", name), title, error, len(edited), "mae"))
    return Report(metrics, run_facts(seed), details, _figures(pipeline, images, sweep))


def _check_measure(names: Sequence[str], measure: Measure | None) -> None:
    absent = [name for name in names if measure is not None and name not in measure.units]
    if measure is not None and absent:
        raise ValueError(
            f"The model's attributes are {', '.join(names)}; the measure provides {', '.join(measure.units)}, so "
            f"{', '.join(absent)} cannot be measured. Choose another measure, or none."
        )


def _calibration(pipeline: AttributeVAEPipeline) -> dict[str, dict[str, Any]]:
    """The calibration curves of the model, in the order of its attributes."""
    curves = pipeline.vae.config["calibration"] or {}
    return {name: curves[name] for name in pipeline.attributes if name in curves}


def _disentanglement_metrics(
    means: np.ndarray, attributes: np.ndarray, names: Sequence[str], dataset: str, details: dict[str, object]
) -> list[Metric]:
    scores: dict[str, Any] = disentanglement(means, attributes, names)
    details |= {"per_attribute": scores["per_attribute"], "left_out": scores["dropped"]}
    names_by_key = {
        "interpretability": "Interpretability",
        "scc": "Spearman correlation coefficient (SCC)",
        "modularity": "Modularity, all dimensions",
        "modularity_regularised": "Modularity, regularised dimensions",
        "mig": "Mutual information gap (MIG)",
        "sap": "Separated attribute predictability (SAP)",
    }
    return [Metric.single(key, name, scores[key], dataset, len(means)) for key, name in names_by_key.items()]


def _sweep(pipeline: AttributeVAEPipeline, means: np.ndarray, measure: Measure) -> Traversal:
    order = [list(measure.units).index(name) for name in pipeline.attributes]
    return traverse_dimensions(
        lambda latents: decode_latents(pipeline, latents),
        means,
        lambda images: measure.function(images)[:, order],
        len(order),
    )


def _reconstruction_agreement(pipeline: AttributeVAEPipeline, images: torch.Tensor) -> tuple[float, np.ndarray]:
    """Compare images with their reconstructions.

    Returns:
        Fraction of pixels on the same side of the middle of the value range, or with the same label; Dice (L, B) of the
        labels from 1 on, NaN for images that do not show the label. There are no labels (L = 0) in intensities.
    """
    agreeing, dice = 0.0, []
    middle = sum(pipeline.vae.config["value_range"]) / 2
    labels = pipeline.vae.config["in_channels"] if pipeline.vae.config["likelihood"] == "categorical" else 0
    for batch in images.split(BATCH):
        rebuilt = pipeline.reconstruct(batch, output_type="pt").images.float().cpu()
        if labels:
            agreeing += float((rebuilt == batch).double().mean()) * len(batch)
            mask, truth = (F.one_hot(each.long(), labels).movedim(-1, 1) for each in (rebuilt, batch))
            dice.append(compute_dice(mask, truth, include_background=False).T.numpy())
        else:
            agreeing += pixel_agreement(rebuilt.numpy(), pipeline.preprocess(batch).numpy(), middle) * len(batch)
    return agreeing / len(images), np.concatenate(dice, axis=1) if dice else np.empty((0, len(images)))


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
        targets = np.clip(rng.choice(attributes[:, dimension], len(images)), values[0], values[-1])
        edited = pipeline.edit(images, {name: targets.tolist()}, output_type="np").images
        measured = measure.function(to_measure_input(pipeline, edited))[:, list(measure.units).index(name)]
        errors[name] = float(np.nanmean(np.abs(measured - targets)))
    return errors


def _figures(
    pipeline: AttributeVAEPipeline, images: torch.Tensor, sweep: Traversal | None
) -> dict[str, PIL.Image.Image]:
    """Reconstructions, samples and interpolations; a traversal for each attribute; the leakage matrix."""
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
        "Held-out images, their reconstructions, samples, and interpolations from the first image to the last": panel(
            rows
        )
    }
    if _calibration(pipeline):
        figures["One held-out image, each attribute swept over its calibrated range"] = _traversals(
            pipeline, shown[len(shown) // 2][None]
        )
    if sweep is not None:
        caption = "Change of each attribute, in its own σ, over a ±2σ sweep of each regularised dimension"
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
