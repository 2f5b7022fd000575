"""The best network for pixels of N(MEAN, STD²), in place of a pipeline's U-Net, and what a sampler makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor

MEAN, STD = -0.25, 0.3  # nearly all within ±1, so that clipping changes little


class GaussianDenoiser(torch.nn.Module):
    """E[x_0 | x_t] in closed form, as ε, x_0, v or the velocity of flow matching.

    Args:
        kind: What it predicts: "epsilon", "sample", "v_prediction" or "flow_prediction".
        config: Configuration of the U-Net that it stands for.
        betas: β of each timestep; by default those of Ho et al. 2020.
        channels: Number of channels of the noisy input, its last ones.
    """

    dtype, device = torch.float32, torch.device("cpu")
    stride = 1
    mask_labels: ClassVar[dict[int, str]] = {}
    id2label: ClassVar[dict[int, str]] = {}

    def __init__(
        self, kind: str, config: Mapping[str, Any], betas: Tensor | None = None, channels: int | None = None
    ) -> None:
        super().__init__()
        self.kind, self.config, self.channels = kind, config, channels
        betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64) if betas is None else betas.double()
        self.log_snr = ((1 - betas).cumprod(0) / (1 - (1 - betas).cumprod(0))).log()
        self.seen: list[Tensor] = []

    def scales(self, timestep: Any) -> tuple[Tensor, Tensor]:
        """√ᾱ and √(1 − ᾱ) at any real timestep, interpolated as the logarithm of their ratio; 1 − τ and τ of flows."""
        t = torch.as_tensor(timestep).double()
        if self.kind == "flow_prediction":
            return 1 - t / 1000, t / 1000
        t = t.clamp(0, len(self.log_snr) - 1)
        low, high = self.log_snr[t.floor().long()], self.log_snr[t.ceil().long()]
        product = torch.sigmoid(low + (high - low) * t.frac())
        return product.sqrt(), (1 - product).sqrt()

    def forward(self, sample: Tensor, timestep: Any, *_: Any, **__: Any) -> Any:
        x = sample[:, -self.channels :].double() if self.channels else sample.double()
        a, sigma = self.scales(timestep)
        clean = MEAN + a * STD**2 / (a**2 * STD**2 + sigma**2) * (x - a * MEAN)
        noise = (x - a * clean) / sigma
        predicted = {
            "epsilon": noise,
            "sample": clean,
            "v_prediction": a * noise - sigma * clean,
            "flow_prediction": noise - clean,
        }[self.kind]
        return SimpleNamespace(sample=predicted.float())
