"""Shapes of the left ventricle as latents of an `AttributeVAE`: encoding, decoding, and the nearest shape.

Published pipelines import this file from beside them. It is published with each of these pipelines.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .meddiffusers_cardiac_labels_v1 import LV, MYO
from .meddiffusers_cardiac_masks_v1 import min_dice
from .meddiffusers_cardiac_region_v1 import LVRegion
from .meddiffusers_checks_v1 import check_finite

PUBLISHED_AS = "meddiffusers_cardiac_shapes_v1"  # the file has the same name in a repository
FIT_STEPS, FIT_RATE, FIT_PRIOR = 80, 0.1, 1e-3  # Adam steps, learning rate and latent penalty


class LVShapes:
    """Shapes that a VAE of label maps knows.

    Args:
        vae: `AttributeVAE` of the labels background, LV and myocardium.
        device: Device on which it is run.
    """

    def __init__(self, vae: Any, device: torch.device) -> None:
        self.vae, self.device = vae, device

    @property
    def mean(self) -> np.ndarray:
        """Mean latent `(K,)` of the training data."""
        moments = self.vae.config["latent_moments"]
        return np.asarray(moments["mean"] if moments else np.zeros(self.vae.config["latent_dim"]))

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Posterior means `(T, K)`, float64, of label maps of the region `(T, h, w)`."""
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(labels).long(), 3).permute(0, 3, 1, 2)
        mean = self.vae.encode(one_hot.to(self.device, self.vae.dtype)).latent_dist.mode()
        check_finite(mean, "vae", "the encoding of the frames")
        return np.asarray(mean.detach().double().cpu())

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Probabilities `(T, 3, h, w)` of background, LV and myocardium in the region."""
        z = torch.from_numpy(latents).to(self.device, self.vae.dtype)
        probabilities = self.vae.expectation(self.vae.decode(z).sample.float())
        check_finite(probabilities, "vae", "the decoding of the frames")
        return np.asarray(probabilities.cpu())

    def fields(self, latents: np.ndarray, region: LVRegion) -> tuple[np.ndarray, np.ndarray]:
        """Fields `(T, H, W)` of the LV and of LV and myocardium, positive inside."""
        probabilities = self.decode(latents)
        return region.paste(probabilities[:, LV] - 0.5), region.paste(0.5 - probabilities[:, 0])

    def reconstruct(self, labels: np.ndarray, latents: np.ndarray, least: float) -> bool:
        """Whether the median Dice between label maps `(T, h, w)` and their decoded latents is at least `least`."""
        return bool(np.median(min_dice(self.decode(latents).argmax(axis=1), labels)) >= least)

    @torch.inference_mode(False)  # so that gradients exist within a caller's inference mode too
    @torch.enable_grad()
    def fit(self, labels: np.ndarray) -> np.ndarray:
        """Latents `(T, K)` of the shapes with the largest overlap with label maps of the region `(T, h, w)`.

        The encoder is unreliable for invalid shapes, so the latents are optimised, starting from it.
        """
        target = torch.from_numpy(np.stack([labels == label for label in (LV, MYO)], axis=1))
        target = target.to(self.device, torch.float32)
        mean = torch.from_numpy(self.mean).to(target)
        latents = torch.from_numpy(self.encode(labels)).to(target).requires_grad_()
        optimizer = torch.optim.Adam([latents], lr=FIT_RATE)
        for step in range(FIT_STEPS):
            decoded = self.vae.decode(latents.to(self.vae.dtype)).sample.float().softmax(dim=1)[:, 1:]
            dice = 2 * (decoded * target).sum(dim=(2, 3)) / (decoded + target).sum(dim=(2, 3)).clamp_min(1)
            loss = (1 - dice).sum() + FIT_PRIOR * (latents - mean).square().sum()
            latents.grad = torch.autograd.grad(loss, latents)[0]
            check_finite(latents.grad, "vae", f"step {step + 1} of {FIT_STEPS} that fits latents to invalid frames")
            optimizer.step()
        return np.asarray(latents.detach().double().cpu())
