"""Losses of diffusion models against closed forms in double precision."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from meddiffusers.training.losses.diffusion import denoising_target, importance_timesteps, min_snr_weights, vlb

KINDS = ("epsilon", "sample", "v_prediction")
TIMES = torch.tensor([0, 1, 2, 50, 400, 999])


def scheduler_of(kind: str, **config: Any) -> DDPMScheduler:
    return DDPMScheduler(beta_start=1e-4, beta_end=0.02, prediction_type=kind, **config)


def products(scheduler: DDPMScheduler, times: Tensor) -> Tensor:
    """ᾱ_t in double precision as (B, 1, 1, 1); 1 before the first step."""
    padded = torch.cat([torch.ones(1).double(), (1 - scheduler.betas.double()).cumprod(dim=0)])
    return padded[times + 1].view(-1, 1, 1, 1)


def recovered(kind: str, output: Tensor, x_t: Tensor, product: Tensor) -> tuple[Tensor, Tensor]:
    """x_0 and ε of what a network predicts, from Salimans & Ho 2022."""
    signal, sigma = product.sqrt(), (1 - product).sqrt()
    if kind == "sample":
        x0 = output
    elif kind == "epsilon":
        x0 = (x_t - sigma * output) / signal
    else:
        x0 = signal * x_t - sigma * output
    return x0, (x_t - signal * x0) / sigma


@pytest.fixture
def samples() -> tuple[Tensor, Tensor]:
    """x_0 in {−1, 1} and noise, for each of `TIMES`."""
    generator = torch.Generator().manual_seed(0)
    shape = (len(TIMES), 3, 4, 4)
    return torch.randint(0, 2, shape, generator=generator) * 2.0 - 1, torch.randn(shape, generator=generator)


@pytest.mark.parametrize("kind", KINDS)
def test_the_target_gives_back_image_and_noise(kind: str, samples: tuple[Tensor, Tensor]) -> None:
    scheduler, (x0, noise) = scheduler_of(kind), samples
    x_t = scheduler.add_noise(x0, noise, TIMES)
    target = denoising_target(scheduler, x0, noise, TIMES)
    clean, recovered_noise = recovered(kind, target.double(), x_t.double(), products(scheduler, TIMES))
    torch.testing.assert_close(clean.float(), x0, atol=1e-3, rtol=0)
    torch.testing.assert_close(recovered_noise.float(), noise, atol=1e-3, rtol=0)
    if kind == "epsilon":
        assert target is noise


def test_an_unknown_target_is_refused(samples: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match="prediction_type='flow'; expected epsilon, sample or v_prediction"):
        denoising_target(scheduler_of("flow"), *samples, TIMES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [0.5, 5.0])
def test_weights_are_the_clipped_snr_in_terms_of_the_image(
    kind: str, gamma: float, samples: tuple[Tensor, Tensor]
) -> None:
    scheduler, (x0, noise) = scheduler_of(kind), samples
    product = products(scheduler, TIMES)
    x_t = product.sqrt() * x0.double() + (1 - product).sqrt() * noise.double()
    target = denoising_target(scheduler, x0, noise, TIMES).double()
    output = target + 0.1 * torch.randn(target.shape, generator=torch.Generator().manual_seed(1)).double()
    clean, exact = (recovered(kind, one, x_t, product)[0] for one in (output, target))
    snr = (product / (1 - product)).flatten()
    weighted = min_snr_weights(scheduler, TIMES, gamma) * (output - target).square().flatten(1).mean(dim=1)
    expected = snr.clamp(max=gamma) * (clean - exact).square().flatten(1).mean(dim=1)
    torch.testing.assert_close(weighted, expected, rtol=1e-3, atol=0)


def test_importance_sampling_raises_the_share_of_times_between_the_limits() -> None:
    even = (torch.arange(10_000) + 0.5) / 10_000
    times = importance_timesteps(even, 0.1, 0.4, 0.8)
    within = (times >= 0.1) & (times < 0.4)
    assert within.float().mean().item() == pytest.approx(0.8 + 0.2 * 0.3, abs=1e-3)
    for part, low, high in (
        (times[even < 0.8], 0.1, 0.4),
        (times[even >= 0.8], 0.0, 1.0),
    ):  # each uniform between its limits
        expected = low + (high - low) * (torch.arange(len(part)) + 0.5) / len(part)
        torch.testing.assert_close(part.sort().values, expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(importance_timesteps(even, 0.1, 0.4, 0.0), even)
    assert importance_timesteps(even, 0.1, 0.4, 1.0).max() <= 0.4


def test_weights_where_the_snr_is_known() -> None:
    """ᾱ = 0.9, 0.45 and 0.009 make SNR = 9, 9/11 and 9/991."""
    known = torch.tensor([0.1, 0.5, 0.98])
    expected = {
        "epsilon": [5 / 9, 1, 1],
        "sample": [5, 9 / 11, 9 / 991],
        "v_prediction": [5 / 10, 9 / 20, 9 / 1000],
    }
    for kind, weights in expected.items():
        scheduler = DDPMScheduler(trained_betas=known.tolist(), num_train_timesteps=3, prediction_type=kind)
        found = min_snr_weights(scheduler, torch.arange(3), gamma=5.0)
        torch.testing.assert_close(found, torch.tensor(weights), rtol=1e-5, atol=0)


def posterior(scheduler: DDPMScheduler, x0: Tensor, x_t: Tensor, time: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_{t−1} | x_t, x_0), Ho et al. 2020, eq. 6 and 7, for one time > 0."""
    alpha, previous = (products(scheduler, torch.tensor([each]))[0] for each in (time, time - 1))
    beta = 1 - alpha / previous
    mean = previous.sqrt() * beta / (1 - alpha) * x0 + (1 - beta).sqrt() * (1 - previous) / (1 - alpha) * x_t
    return mean, (1 - previous) / (1 - alpha) * beta


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_is_the_divergence_from_the_posterior(kind: str, samples: tuple[Tensor, Tensor]) -> None:
    scheduler, (x0, noise) = scheduler_of(kind, variance_type="learned_range"), samples
    x_t = scheduler.add_noise(x0, noise, TIMES)
    generator = torch.Generator().manual_seed(2)
    output = denoising_target(scheduler, x0, noise, TIMES) + 0.1 * torch.randn(x0.shape, generator=generator)
    v = torch.rand(x0.shape, generator=generator) * 2 - 1
    bits = vlb(scheduler, torch.cat([output, v], dim=1), x0, x_t, TIMES)
    predicted_x0 = recovered(kind, output.double(), x_t.double(), products(scheduler, TIMES))[0]
    for index, time in enumerate(TIMES[1:].tolist(), 1):
        true, variance = posterior(scheduler, x0[index].double(), x_t[index].double(), time)
        mean, _ = posterior(scheduler, predicted_x0[index], x_t[index].double(), time)
        weight = (v[index].double() + 1) / 2
        log_variance = weight * scheduler.betas[time].double().log() + (1 - weight) * variance.log()
        learnt = scheduler._get_variance(time, predicted_variance=v[index])  # a logarithm, too
        torch.testing.assert_close(learnt, log_variance.float(), rtol=1e-3, atol=0)
        divergence = kl_divergence(Normal(true, variance.sqrt()), Normal(mean, (log_variance / 2).exp()))
        assert bits[index].item() == pytest.approx(divergence.mean().item() / math.log(2), rel=5e-3)


def test_the_last_step_is_the_likelihood_of_the_image(samples: tuple[Tensor, Tensor]) -> None:
    """With v = 1 its variance is β_0, with v = −1 that of the posterior one step earlier."""
    scheduler, (x0, noise) = scheduler_of("epsilon"), (each[:1] for each in samples)
    first = torch.zeros(1, dtype=torch.long)
    x_t = scheduler.add_noise(x0, noise, first)
    output = noise + 0.1
    predicted_x0 = recovered("epsilon", output.double(), x_t.double(), products(scheduler, first))[0]
    _, earlier = posterior(scheduler, x0.double(), x_t.double(), 1)
    for v, variance in ((1.0, scheduler.betas[0].double()), (-1.0, earlier)):
        bits = vlb(scheduler, torch.cat([output, torch.full_like(x0, v)], dim=1), x0, x_t, first)
        expected = -Normal(predicted_x0, variance.sqrt()).log_prob(x0.double()).mean() / math.log(2)
        assert bits.item() == pytest.approx(expected.item(), rel=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_vanishes_for_the_exact_posterior(kind: str, samples: tuple[Tensor, Tensor]) -> None:
    scheduler, (x0, noise) = scheduler_of(kind), samples
    exact = denoising_target(scheduler, x0, noise, TIMES)
    x_t = scheduler.add_noise(x0, noise, TIMES)
    bits = vlb(scheduler, torch.cat([exact, -torch.ones_like(x0)], dim=1), x0, x_t, TIMES)
    torch.testing.assert_close(bits[1:], torch.zeros(len(TIMES) - 1), atol=1e-5, rtol=0)
    wider = vlb(scheduler, torch.cat([exact, torch.zeros_like(x0)], dim=1), x0, x_t, TIMES)
    assert (wider[1:4] > 1e-4).all()  # late in the process, posterior's variance and β are nearly the same
    assert torch.isfinite(bits).all()


def test_the_bound_trains_the_variance_only(samples: tuple[Tensor, Tensor]) -> None:
    scheduler, (x0, noise) = scheduler_of("epsilon"), samples
    predicted = torch.cat([noise + 0.1, torch.zeros_like(noise)], dim=1).requires_grad_()
    x_t = scheduler.add_noise(x0, noise, TIMES)
    vlb(scheduler, predicted, x0, x_t, TIMES).sum().backward()
    assert predicted.grad is not None and torch.isfinite(predicted.grad).all()
    assert not predicted.grad[:, :3].any()
    assert (predicted.grad[:, 3:].flatten(1).abs().amax(dim=1) > 0).all()
