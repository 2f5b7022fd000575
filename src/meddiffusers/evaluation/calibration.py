"""Which latent value stands for which attribute value: the piecewise-linear curves an AttributeVAE keeps in its config.

By decoding: set dimension r of encoded images to a grid of values, decode, measure; the curve is the median measurement
at each grid value. By encoding, where nothing can measure a decoded image: the isotonic regression of the posterior
means of dimension r on the known attribute. Both are made to increase.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.isotonic import IsotonicRegression

from meddiffusers.data.measures import Measure
from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline

GRID = 15
TAILS = (0.5, 99.5)  # percentiles of the posterior means that the curve spans

Calibration = dict[str, dict[str, Any]]


def calibration_by_decoding(pipeline: AttributeVAEPipeline, images: torch.Tensor, measure: Measure) -> Calibration:
    """Curves from decoded images that `measure` understands; `images` are what the pipeline takes."""
    means = pipeline.encode(images)
    curves = {}
    for dimension, name in enumerate(pipeline.attributes):
        grid = _grid(means[:, dimension].cpu().numpy())
        swept = means.repeat_interleave(GRID, dim=0)
        swept[:, dimension] = torch.from_numpy(np.tile(grid, len(means))).to(swept)
        decoded = measured_images(pipeline.decode(swept, output_type="np").images)
        attribute = measure.function(decoded)[:, list(measure.units).index(name)].reshape(len(means), GRID)
        curves[name] = _increasing(name, np.nanmedian(attribute, axis=0), grid, measure.units[name])
    return curves


def calibration_by_encoding(
    pipeline: AttributeVAEPipeline, images: torch.Tensor, attributes: np.ndarray, units: Mapping[str, str]
) -> Calibration:
    """Curves from images (N, …) whose attributes (N, A) are known."""
    means = pipeline.encode(images).cpu().numpy()
    curves = {}
    for dimension, name in enumerate(pipeline.attributes):
        known = attributes[:, dimension]
        fit = IsotonicRegression(out_of_bounds="clip").fit(known, means[:, dimension])
        values = _grid(known)
        curves[name] = _increasing(name, values, fit.predict(values), units.get(name, ""))
    return curves


def measured_images(images: np.ndarray) -> np.ndarray:
    """Pipeline output (N, H, W, 1), or label maps (N, H, W), as the (N, H, W) that measures take."""
    return images[..., 0] if images.ndim == 4 else images


def _grid(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, TAILS)
    return np.linspace(low, high, GRID)


def _increasing(name: str, values: np.ndarray, latents: np.ndarray, unit: str) -> dict[str, Any]:
    """The points of the curve at which both lists rise; a curve that hardly rises is no calibration."""
    keep = [0]
    for point in range(1, len(values)):
        if values[point] > values[keep[-1]] and latents[point] > latents[keep[-1]]:
            keep.append(point)
    if len(keep) < 3:
        raise ValueError(
            f"Attribute {name!r} does not follow its latent dimension (its curve rises at {len(keep)} of {len(values)} "
            "points), so it cannot be calibrated. Train longer or raise ordering_weight or regression_weight."
        )
    rounded = [[round(float(number), 6) for number in curve[keep]] for curve in (values, latents)]
    return {"unit": unit, "values": rounded[0], "latents": rounded[1]}
