"""Inversion and denoising without guidance: reconstruction error on trained weights, and on a known distribution."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from meddiffusers import AnomalyDetectionPipeline, ReversibleDDIMScheduler
from meddiffusers.datasets.labelled_config import load_test_split_for
from meddiffusers.datasets.rows import images_of
from meddiffusers.evaluation.results import Bar
from meddiffusers.hub.load import load

IMAGES, STEPS, ROUNDS = 16, 50, (1, 2, 3, 5, 8)
MEAN, STD = 0.3, 0.5  # of known images with independent Gaussian pixels
KNOWN_STEPS, STRENGTH, KNOWN = 500, 0.5, 4096  # the reference's: every time up to half of 1000; pixels


def inversion(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """The bars, and the relative error by rounds of the fixed point."""
    pipeline: Any = load(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    rows = load_test_split_for(pipeline, "phantom", ["lesion"], num_proc=2).select(range(IMAGES))
    images = pipeline.preprocess(torch.from_numpy(images_of(rows)))
    errors = {rounds: _relative(pipeline, images, rounds) for rounds in ROUNDS}
    generator = torch.Generator().manual_seed(seed)
    known = MEAN + STD * torch.randn(KNOWN, generator=generator, dtype=torch.float64)
    ours, reference = _error(known, _round_trip), _error(known, _reference_round_trip)
    bars = [
        Bar(f"inversion: relative error, {STEPS} steps, {ROUNDS[-1]} rounds", errors[ROUNDS[-1]], "<=", 1e-3),
        Bar("inversion: error on known images, one round, over the reference loop's", ours / reference, "<=", 1 / 3),
    ]
    return bars, {
        "n": IMAGES,
        "relative error by rounds": errors,
        "known images": {"ours": ours, "reference loop": reference},
    }


def _relative(pipeline: AnomalyDetectionPipeline, images: Tensor, rounds: int) -> float:
    """|x̂ − x| / |x| over all pixels, of images in the model's range before they are clipped."""
    kept: dict[str, Tensor] = {}

    def last(pipe: AnomalyDetectionPipeline, step: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        kept.update(tensors)
        return {}

    call = {"method": "none", "map_from": "residual", "num_inference_steps": STEPS, "num_inversion_iterations": rounds}
    pipeline(images, **call, callback_on_step_end=last)
    low, high = pipeline.image_range
    x = low + (high - low) * images
    return float((kept["latents"] - x).norm() / x.norm())


def _error(x: Tensor, round_trip: Callable[[Tensor], Tensor]) -> float:
    return float((round_trip(x) - x).abs().mean())


def _noise(x: Tensor, product: Tensor) -> Tensor:
    """E[ε | x_t] of the known images."""
    variance = product * STD**2 + 1 - product
    return (1 - product).sqrt() * (x - product.sqrt() * MEAN) / variance


def _round_trip(x: Tensor) -> Tensor:
    scheduler = ReversibleDDIMScheduler()
    scheduler.set_timesteps(KNOWN_STEPS, strength=STRENGTH)
    products = scheduler.alphas_cumprod.double()
    for t in scheduler.timesteps.flip(0):
        x = scheduler.invert_step(_noise(x, products[t]), t, x).next_sample
    for t in scheduler.timesteps:
        x = scheduler.step(_noise(x, products[t]), t, x).prev_sample
    return x


def _reference_round_trip(x: Tensor) -> Tensor:
    """As the loop of Wolleb et al. goes, which first adds the noise of time 0 to the image.

    Up from t to t + 1 with ε at t, for t = 1 … L − 1; down from t to t − 1 with ε at t, for t = L − 2 … 0.
    """
    products = ReversibleDDIMScheduler().alphas_cumprod.double()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    x = products[0].sqrt() * x + (1 - products[0]).sqrt() * noise
    cleaner = torch.cat([torch.ones(1, dtype=torch.float64), products])
    for t in range(1, KNOWN_STEPS):
        x = _moved(x, products[t], products[t + 1])
    for t in reversed(range(KNOWN_STEPS - 1)):
        x = _moved(x, products[t], cleaner[t])
    return x


def _moved(x: Tensor, product: Tensor, other: Tensor) -> Tensor:
    noise = _noise(x, product)
    return other.sqrt() * (x - (1 - product).sqrt() * noise) / product.sqrt() + (1 - other).sqrt() * noise
