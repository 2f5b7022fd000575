"""An AttributeVAEPipeline known in closed form: it draws one bar, 12 + 2·z₀ px wide and 12 + 1.5·z₁ px high.

Its encoder reads the bar exactly, so latents, attributes and decoded images determine each other. A third latent moves
nothing. Bars are anti-aliased and start in the upper left corner of 28×28 pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from meddiffusers import AttributeVAE, AttributeVAEPipeline
from meddiffusers.datasets.attribute_measures import Measure

OFFSET, SLOPE = (12.0, 12.0), (2.0, 1.5)
WIDTH = {"unit": "px", "values": [4.0, 20.0], "latents": [-4.0, 4.0]}  # the true curve of `width`
HEIGHT = {"unit": "px", "values": [6.0, 18.0], "latents": [-4.0, 4.0]}


def bars(width: Tensor, height: Tensor) -> Tensor:
    """(N, 1, 28, 28) in [0, 1]."""
    columns, rows = ((size[:, None] - torch.arange(28)).clamp(0, 1) for size in (width, height))
    return (rows[:, :, None] * columns[:, None, :])[:, None]


def width_and_height(images: np.ndarray) -> np.ndarray:
    """(N, 2) of images (N, 28, 28), in px."""
    return np.stack([images.sum(axis=2).max(axis=1), images.sum(axis=1).max(axis=1)], axis=1)


MEASURE = Measure(width_and_height, {"width": "px", "height": "px"})


class BarDecoder(nn.Module):
    """From latents (N, K) to bars in [low, high]; logits of bar and background where there are two labels."""

    def __init__(self, low: float, high: float, labels: bool) -> None:
        super().__init__()
        self.low, self.high, self.labels = low, high, labels
        self.unused = nn.Parameter(torch.zeros(1))  # a model's dtype and device are those of its parameters

    def forward(self, latents: Tensor) -> Tensor:
        width, height = (offset + slope * z for offset, slope, z in zip(OFFSET, SLOPE, latents.T, strict=False))
        pixels = bars(width, height)
        return (
            torch.cat([0.5 - pixels, pixels - 0.5], dim=1)
            if self.labels
            else self.low + (self.high - self.low) * pixels
        )


class Read(nn.Module):
    """From images to means and log-variances (N, 2 · K)."""

    def __init__(self, low: float, high: float, latent_dim: int) -> None:
        super().__init__()
        self.low, self.high, self.latent_dim = low, high, latent_dim

    def forward(self, images: Tensor) -> Tensor:
        shape = torch.from_numpy(width_and_height(((images[:, -1] - self.low) / (self.high - self.low)).numpy()))
        latents = (shape - torch.tensor(OFFSET)) / torch.tensor(SLOPE)
        return torch.cat([latents, torch.zeros(len(images), 2 * self.latent_dim - 2)], dim=1)


def bar_pipeline(**config: Any) -> AttributeVAEPipeline:
    """Attributes width and height, three latents, gaussian; `config` overrides what AttributeVAE is configured with."""
    shape = {"block_out_channels": (1, 1), "hidden_dim": 1, "latent_dim": 3}
    settings = {**shape, "attributes": ["width", "height"], "likelihood": "gaussian", **config}
    vae = AttributeVAE(**settings)
    low, high = vae.config["value_range"]
    vae.decoder = BarDecoder(low, high, labels=settings["likelihood"] == "categorical")
    vae.encoder = Read(low, high, settings["latent_dim"])
    return AttributeVAEPipeline(vae)


def bar_data(count: int = 60, seed: int = 0) -> tuple[Tensor, np.ndarray]:
    """Images (N, 1, 28, 28) and their width and height (N, 2), spread evenly over 6 to 18 px and independent."""
    rng = np.random.default_rng(seed)
    shape = np.stack([rng.permutation(np.linspace(6, 18, count)) for _ in range(2)], axis=1)
    return bars(*torch.from_numpy(shape).float().T), shape
