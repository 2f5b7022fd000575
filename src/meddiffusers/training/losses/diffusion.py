"""Losses of denoising diffusion models.

With ᾱ_t from the scheduler, x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε and SNR(t) = ᾱ_t / (1−ᾱ_t):

| prediction type | target | weight that turns the squared error into SNR times that of x_0 |
|---|---|---|
| "epsilon" | ε | 1 |
| "sample" | x_0 | SNR |
| "v_prediction" | √ᾱ_t ε − √(1−ᾱ_t) x_0 | SNR / (SNR + 1) |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor

from meddiffusers.training.engine.randomness import BatchRandom

Scheduler: TypeAlias = DDPMScheduler | DDIMScheduler

VLB_WEIGHT = 1e-3  # of the bound beside the squared error: T/1000 for the sum over T steps (Nichol & Dhariwal 2021)


def stratified_timesteps(batch: int, samples_per_image: int, random: BatchRandom) -> Tensor:
    """Uniform times on [0, 1), shape (B · samples_per_image,); those of one image are evenly spaced.

    Even spacing lowers the variance of the loss.
    """
    first = random.rand(batch, 1)
    offsets = torch.arange(samples_per_image, device=first.device) / samples_per_image
    return ((first + offsets) % 1).clamp_max(1 - 1e-6).flatten()


def importance_timesteps(times: Tensor, low: float, high: float, share: float) -> Tensor:
    """Map uniform times on [0, 1) so that a further `share` of them lies between `low` and `high`.

    Early times are nearly the clean image and late ones nearly noise. What a label changes is learnt between them.
    """
    within = low + (high - low) * times / max(share, 1e-9)
    return torch.where(times < share, within, (times - share) / max(1 - share, 1e-9)).clamp_max(1 - 1e-6)


def denoising_target(scheduler: Scheduler, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """The target of the network, in the shape of x0 (B, …).

    Raises:
        ValueError: The scheduler has an unknown prediction type.
    """
    kind = scheduler.config["prediction_type"]
    if kind == "epsilon":
        return noise
    if kind == "sample":
        return x0
    if kind == "v_prediction":
        return scheduler.get_velocity(x0, noise, timesteps)  # type: ignore[arg-type]
    raise ValueError(f"prediction_type={kind!r}; expected epsilon, sample or v_prediction.")


def min_snr_weights(scheduler: Scheduler, timesteps: Tensor, gamma: float) -> Tensor:
    """Weights (B,) of the squared errors: min(SNR, γ) in terms of x_0 (Hang et al. 2023, eq. 9 to 11)."""
    snr = compute_snr(scheduler, timesteps)
    clipped = snr.clamp(max=gamma)
    kind = scheduler.config["prediction_type"]
    return clipped / {"epsilon": snr, "sample": 1.0, "v_prediction": snr + 1}[kind]


def hybrid_loss(
    scheduler: Scheduler,
    predicted: Tensor,
    x0: Tensor,
    noise: Tensor,
    x_t: Tensor,
    timesteps: Tensor,
    snr_gamma: float | None = None,
) -> dict[str, Tensor]:
    """The squared error, and the variational bound where the variance is learnt (Nichol & Dhariwal 2021, eq. 16).

    Args:
        scheduler: The noise schedule and the prediction type.
        predicted: Output of the network, (B, K, …), or (B, 2·K, …) with a learnt variance.
        x0, noise, x_t: Clean images, noise and noisy images, (B, K, …).
        timesteps: Time steps (B,).
        snr_gamma: γ of min-SNR weights; None for an unweighted error.

    Returns:
        The "loss"; the unweighted squared error, "mse"; with a learnt variance the bound, "vlb", in bits per dimension.
    """
    squared = (predicted[:, : x0.shape[1]] - denoising_target(scheduler, x0, noise, timesteps)).square()
    error = squared.flatten(1).mean(dim=1)
    terms = {"mse": error.mean()}
    if snr_gamma is not None:
        error = error * min_snr_weights(scheduler, timesteps, snr_gamma)
    total = error.mean()
    if predicted.shape[1] > x0.shape[1]:
        terms["vlb"] = vlb(scheduler, predicted, x0, x_t, timesteps).mean()
        total = total + VLB_WEIGHT * scheduler.config["num_train_timesteps"] * terms["vlb"]
    return {"loss": total, **terms}


def vlb(scheduler: Scheduler, predicted: Tensor, x0: Tensor, x_t: Tensor, timesteps: Tensor) -> Tensor:
    """Term t of the variational lower bound with a learnt variance; the mean gets no gradient.

    Nichol & Dhariwal 2021, section 3.1. At t = 0 the likelihood is the density of a Gaussian at x0, not the discretised
    one of 8-bit images, since masks have no grey levels.

    Args:
        scheduler: The noise schedule and the prediction type.
        predicted: (B, 2·K, …): the prediction, and v in [−1, 1], which interpolates log σ² from the variance of the
            posterior to β_t (eq. 15).
        x0, x_t: Clean and noisy images, (B, K, …).
        timesteps: Time steps (B,).

    Returns:
        Bits per dimension, (B,).
    """
    output, v = predicted.detach()[:, : x0.shape[1]], predicted[:, x0.shape[1] :]
    shape = (-1,) + (1,) * (x0.ndim - 1)
    alphas = scheduler.alphas_cumprod.to(x0.device)
    alpha = alphas[timesteps].view(shape)
    previous = torch.where(timesteps > 0, alphas[(timesteps - 1).clamp_min(0)], torch.ones_like(timesteps)).view(shape)
    beta = 1 - alpha / previous
    first = ((1 - alphas[0]) / (1 - alphas[1]) * (1 - alphas[1] / alphas[0])).log()  # t = 0 has no variance
    lowest = torch.where(previous < 1, (beta * (1 - previous) / (1 - alpha)).clamp_min(1e-20).log(), first)
    log_variance = torch.lerp(lowest.expand_as(v), beta.log().expand_as(v), (v + 1) / 2)
    predicted_x0 = _predict_x0(scheduler, output, x_t, alpha)
    mean_difference = previous.sqrt() * beta / (1 - alpha) * (x0 - predicted_x0)  # both means share the term in x_t
    ratio = (lowest - log_variance).exp()
    kl = 0.5 * (log_variance - lowest - 1 + ratio + mean_difference.square() * (-log_variance).exp())
    nll = 0.5 * (math.log(2 * math.pi) + log_variance + (x0 - predicted_x0).square() * (-log_variance).exp())
    return torch.where(timesteps.view(shape) > 0, kl, nll).flatten(1).mean(dim=1) / math.log(2)


def _predict_x0(scheduler: Scheduler, output: Tensor, x_t: Tensor, alpha: Tensor) -> Tensor:
    """x_0 from the network's output for x_t; alpha: ᾱ_t, in a shape that broadcasts."""
    kind = scheduler.config["prediction_type"]
    if kind == "sample":
        return output
    if kind == "v_prediction":
        return alpha.sqrt() * x_t - (1 - alpha).sqrt() * output
    return (x_t - (1 - alpha).sqrt() * output) / alpha.sqrt()


def denoising_loss(
    scheduler: Scheduler | None,
    predict: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    random: BatchRandom,
    snr_gamma: float | None = None,
) -> dict[str, Tensor]:
    """The loss at random times, with new noise.

    Args:
        scheduler: The noise schedule; None for flow matching, with times from 0 to 1000 (Lipman et al. 2023).
        predict: The network, called with x_t (B, …) and times (B,).
        x0: Clean images or latents, (B, …).
        random: Source of random numbers.
        snr_gamma: γ of min-SNR weights; None for an unweighted error.
    """
    noise, times = random.randn_like(x0), stratified_timesteps(len(x0), 1, random).to(x0.device)
    if scheduler is None:
        share = times.view(-1, *(1,) * (x0.ndim - 1))
        velocity = predict(torch.lerp(x0, noise, share), 1000 * times)
        return {"loss": (velocity - (noise - x0)).square().mean()}
    timesteps = (times * scheduler.config["num_train_timesteps"]).long()
    x_t = scheduler.add_noise(x0, noise, timesteps)
    return hybrid_loss(scheduler, predict(x_t, timesteps), x0, noise, x_t, timesteps, snr_gamma)
