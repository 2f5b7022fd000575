"""Which latent value stands for which attribute value: the piecewise-linear curves an AttributeVAE keeps in its config.

By decoding: set dimension r of encoded images to a grid of values, decode, measure; the curve is the median measurement
at each grid value. By encoding, where nothing can measure a decoded image: the isotonic regression of the posterior
means of dimension r on the known attribute. Both are made to rise strictly.
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
from meddiffusers.evaluation.attributes.batched import decoded, posterior_means
from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline

logger = logging.getLogger(__name__)

GRID = 15
TAILS = (0.5, 99.5)  # percentiles of the posterior means, or of the attribute, that the curve spans
DECIMALS = 6

Calibration = dict[str, dict[str, Any]]


def calibration_by_decoding(pipeline: AttributeVAEPipeline, images: torch.Tensor, measure: Measure) -> Calibration:
    """Curves from decoded images that `measure` understands; `images` are what the pipeline takes."""
    means = posterior_means(pipeline, images)
    curves = {}
    for dimension, name in enumerate(pipeline.attributes):
        grid = _grid(means[:, dimension])
        swept = np.repeat(means, GRID, axis=0)
        swept[:, dimension] = np.tile(grid, len(means))
        attribute = measure.function(decoded(pipeline, swept))[:, list(measure.units).index(name)].reshape(-1, GRID)
        known = np.isfinite(attribute).any(axis=0)
        curves[name] = _rising(np.nanmedian(attribute[:, known], axis=0), grid[known], measure.units[name])
    return _followed(curves)


def calibration_by_encoding(
    pipeline: AttributeVAEPipeline, images: torch.Tensor, attributes: np.ndarray, units: Mapping[str, str]
) -> Calibration:
    """Curves from images (N, …) whose attributes (N, A) are known."""
    means = posterior_means(pipeline, images)
    curves = {}
    for dimension, name in enumerate(pipeline.attributes):
        known = attributes[:, dimension]
        fit = IsotonicRegression(out_of_bounds="clip").fit(known, means[:, dimension])
        values = _grid(known)
        curves[name] = _rising(values, fit.predict(values), units.get(name, ""))
    return _followed(curves)


def _grid(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, TAILS)
    return np.linspace(low, high, GRID)


def _rising(values: np.ndarray, latents: np.ndarray, unit: str) -> dict[str, Any]:
    """The curve over non-decreasing latents, its values made monotone, less the points at which either stands still."""
    values, latents = isotonic_regression(values).x.round(DECIMALS), latents.astype(float).round(DECIMALS)
    values, kept = np.unique(values, return_index=True)
    latents, kept = np.unique(latents[kept], return_index=True)
    return {"unit": unit, "values": values[kept].tolist(), "latents": latents.tolist()}


def _followed(curves: Calibration) -> Calibration:
    """The curves that rise at half of their points or more; the others are no calibration."""
    flat = [name for name, curve in curves.items() if len(curve["values"]) < GRID / 2]
    if flat:
        logger.warning(
            "%s: no calibration, because the latent dimension hardly moves the attribute. Train longer, or raise "
            "ordering_weight or regression_weight.",
            ", ".join(flat),
        )
    return {name: curve for name, curve in curves.items() if name not in flat}
