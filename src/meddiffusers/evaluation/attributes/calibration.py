"""Calibration of an AttributeVAE: piecewise-linear curves that map attribute values to latent values.

By decoding: set dimension r of encoded images to each value of a grid, decode, and measure the attribute. The curve is
the median measurement at each grid value. By encoding, where no measure exists: isotonic regression of the posterior
means of dimension r on the known attribute. Both curves are made strictly increasing, and go into the model's config.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.optimize import isotonic_regression
from sklearn.isotonic import IsotonicRegression

from meddiffusers.datasets.attribute_measures import Measure
from meddiffusers.evaluation.attributes.batched import decode_latents, posterior_means
from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline

logger = logging.getLogger(__name__)

GRID = 15
TAILS = (0.5, 99.5)  # percentiles of the posterior means, or of the attribute, between which the curve is defined
DECIMALS = 6

Calibration = dict[str, dict[str, Any]]


def calibration_by_decoding(pipeline: AttributeVAEPipeline, images: torch.Tensor, measure: Measure) -> Calibration:
    """Calibrate by measuring decoded images.

    Args:
        pipeline: The pipeline to calibrate.
        images: Images (B, …) as the pipeline takes them.
        measure: Measures the attributes of decoded images.

    Returns:
        For each attribute its unit, "values" of the attribute and the "latents" they map to, both increasing.
    """
    means = posterior_means(pipeline, images)
    curves = {}
    for dimension, name in enumerate(pipeline.attributes):
        grid = _grid(means[:, dimension])
        swept = np.repeat(means, GRID, axis=0)
        swept[:, dimension] = np.tile(grid, len(means))
        attribute = measure.function(decode_latents(pipeline, swept))[:, list(measure.units).index(name)].reshape(
            -1, GRID
        )
        known = np.isfinite(attribute).any(axis=0)
        curves[name] = _increasing(np.nanmedian(attribute[:, known], axis=0), grid[known], measure.units[name])
    return _drop_flat(curves)


def calibration_by_encoding(
    pipeline: AttributeVAEPipeline, images: torch.Tensor, attributes: np.ndarray, units: Mapping[str, str]
) -> Calibration:
    """Calibrate by encoding images with known attributes.

    Args:
        pipeline: The pipeline to calibrate.
        images: Images (B, …) as the pipeline takes them.
        attributes: Their attributes, (B, A), in the order of `pipeline.attributes`.
        units: Unit of each attribute, by name.

    Returns:
        Curves as `calibration_by_decoding` returns them.
    """
    means = posterior_means(pipeline, images)
    curves = {}
    for dimension, name in enumerate(pipeline.attributes):
        known = attributes[:, dimension]
        fit = IsotonicRegression(out_of_bounds="clip").fit(known, means[:, dimension])
        values = _grid(known)
        curves[name] = _increasing(values, fit.predict(values), units.get(name, ""))
    return _drop_flat(curves)


def _grid(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, TAILS)
    return np.linspace(low, high, GRID)


def _increasing(values: np.ndarray, latents: np.ndarray, unit: str) -> dict[str, Any]:
    """A curve over non-decreasing latents: values made monotone, points at which either does not increase dropped."""
    values, latents = isotonic_regression(values).x.round(DECIMALS), latents.astype(float).round(DECIMALS)
    values, kept = np.unique(values, return_index=True)
    latents, kept = np.unique(latents[kept], return_index=True)
    return {"unit": unit, "values": values[kept].tolist(), "latents": latents.tolist()}


def _drop_flat(curves: Calibration) -> Calibration:
    """Keep the curves that increase at half of their points or more, and warn about the others."""
    flat = [name for name, curve in curves.items() if len(curve["values"]) < GRID / 2]
    if flat:
        logger.warning(
            "%s: no calibration, because the latent dimension hardly changes the attribute. Train longer, or raise "
            "ordering_weight or regression_weight.",
            ", ".join(flat),
        )
    return {name: curve for name, curve in curves.items() if name not in flat}
