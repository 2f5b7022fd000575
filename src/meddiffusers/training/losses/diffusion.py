"""Losses of denoising diffusion models.

With ᾱ_t of the scheduler, x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε and SNR(t) = ᾱ_t / (1−ᾱ_t):

| prediction type | target | weight that makes the error one of x_0, times SNR |
|---|---|---|
| "epsilon" | ε | 1 |
| "sample" | x_0 | SNR |
| "v_prediction" | √ᾱ_t ε − √(1−ᾱ_t) x_0 | SNR / (SNR + 1) |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from diffusers.training_utils import compute_snr
from torch import Tensor

from meddiffusers.training.engine.randomness import BatchRandom

VARIATIONAL_WEIGHT = 1e-3  # of the bound beside the squared error: T/1000 for the sum over T steps (Nichol & Dhariwal)


def stratified_timesteps(batch: int, draws: int, random: BatchRandom) -> Tensor:
    """(B·draws,) each uniform on [0, 1), those of one image evenly apart: fewer chance ups and downs."""
    first = random.rand(batch, 1)
    apart = torch.arange(draws, device=first.device) / draws
    return ((first + apart) % 1).clamp_max(1 - 1e-6).flatten()


def importance_timesteps(times: Tensor, low: float, high: float, share: float) -> Tensor:
    """Uniform numbers on [0, 1) as others there, of which `share` lie between `low` and `high` beside those by chance.

    Early times are nearly the image and late ones nearly noise; what a label changes is learnt between them.
    """
    within = low + (high - low) * times / max(share, 1e-9)
    return torch.where(times < share, within, (times - share) / max(1 - share, 1e-9)).clamp_max(1 - 1e-6)


def denoising_target(scheduler: Any, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the network is to predict, of the shape of x0 (B, …); ValueError for an unknown prediction type."""
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "sample":
        return x0
    if kind == "v_prediction":
        return scheduler.get_velocity(x0, noise, timesteps)
    raise ValueError(f"prediction_type={kind!r}; expected epsilon, sample or v_prediction.")


def min_snr_weights(scheduler: Any, timesteps: Tensor, gamma: float) -> Tensor:
    """(B,) weights of the squared errors: min(SNR, γ) in terms of x_0 (Hang et al. 2023, eq. 9 to 11)."""
    snr = compute_snr(scheduler, timesteps)
    clipped = snr.clamp(max=gamma)
    kind = scheduler.config.prediction_type
    return clipped / {"epsilon": snr, "sample": 1.0, "v_prediction": snr + 1}[kind]


def hybrid_loss(
    scheduler: Any,
    predicted: Tensor,
    x0: Tensor,
    noise: Tensor,
    x_t: Tensor,
    timesteps: Tensor,
    snr_gamma: float | None = None,
) -> dict[str, Tensor]:
    """The "loss": the squared error ("mse"), weighted by min-SNR if γ is given, and the "bound" of a learnt variance.

    predicted (B, K, …) or, with the variance, (B, 2·K, …); x0, noise, x_t (B, K, …).
    """
    squared = (predicted[:, : x0.shape[1]] - denoising_target(scheduler, x0, noise, timesteps)).square()
    each = squared.flatten(1).mean(dim=1)
    terms = {"mse": each.mean()}
    if snr_gamma is not None:
        each = each * min_snr_weights(scheduler, timesteps, snr_gamma)
    total = each.mean()
    if predicted.shape[1] > x0.shape[1]:
        terms["bound"] = vlb(scheduler, predicted, x0, x_t, timesteps).mean()
        total = total + VARIATIONAL_WEIGHT * scheduler.config.num_train_timesteps * terms["bound"]
    return {"loss": total, **terms}


def vlb(scheduler: Any, predicted: Tensor, x0: Tensor, x_t: Tensor, timesteps: Tensor) -> Tensor:
    """(B,) bits per dimension of step t with the learnt variance; the mean gets no gradient (Nichol & Dhariwal 2021).

    predicted (B, 2·K, …): what `denoising_target` is, and v in [−1, 1] that interpolates log σ² from the posterior's
    variance to β_t (eq. 15).
    t = 0 is a Gaussian's density at x0 here, not the discretised one of 8-bit images: masks have no grey levels.
    """
    output, v = predicted.detach()[:, : x0.shape[1]], predicted[:, x0.shape[1] :]
    shape = (-1,) + (1,) * (x0.ndim - 1)
    products = scheduler.alphas_cumprod.to(x0.device)
    now = products[timesteps].view(shape)
    before = torch.where(timesteps > 0, products[(timesteps - 1).clamp_min(0)], torch.ones_like(timesteps)).view(shape)
    beta = 1 - now / before
    first = ((1 - products[0]) / (1 - products[1]) * (1 - products[1] / products[0])).log()  # t = 0 has no variance
    lowest = torch.where(before < 1, (beta * (1 - before) / (1 - now)).clamp_min(1e-20).log(), first)
    log_variance = torch.lerp(lowest.expand_as(v), beta.log().expand_as(v), (v + 1) / 2)
    guess = _clean(scheduler, output, x_t, now)
    apart = before.sqrt() * beta / (1 - now) * (x0 - guess)  # the means, which hold x_t alike
    ratio = (lowest - log_variance).exp()
    divergence = 0.5 * (log_variance - lowest - 1 + ratio + apart.square() * (-log_variance).exp())
    likelihood = 0.5 * (math.log(2 * math.pi) + log_variance + (x0 - guess).square() * (-log_variance).exp())
    return torch.where(timesteps.view(shape) > 0, divergence, likelihood).flatten(1).mean(dim=1) / math.log(2)


def _clean(scheduler: Any, output: Tensor, x_t: Tensor, product: Tensor) -> Tensor:
    """The x_0 that a network's output for x_t amounts to; product: ᾱ_t, of a shape that broadcasts."""
    kind = scheduler.config.prediction_type
    if kind == "sample":
        return output
    if kind == "v_prediction":
        return product.sqrt() * x_t - (1 - product).sqrt() * output
    return (x_t - (1 - product).sqrt() * output) / product.sqrt()


def denoising_loss(
    scheduler: Any | None,
    predicted: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    random: BatchRandom,
    snr_gamma: float | None = None,
) -> dict[str, Tensor]:
    """The loss of what a network predicts of x0 (B, …) with noise of random times, `predicted(x_t, times)`.

    scheduler: None for flow matching, whose times go from 0 to 1000 (Lipman et al. 2023).
    """
    noise, times = random.randn_like(x0), stratified_timesteps(len(x0), 1, random).to(x0.device)
    if scheduler is None:
        share = times.view(-1, *(1,) * (x0.ndim - 1))
        found = predicted(torch.lerp(x0, noise, share), 1000 * times)
        return {"loss": (found - (noise - x0)).square().mean()}
    timesteps = (times * scheduler.config.num_train_timesteps).long()
    x_t = scheduler.add_noise(x0, noise, timesteps)
    return hybrid_loss(scheduler, predicted(x_t, timesteps), x0, noise, x_t, timesteps, snr_gamma)
