"""DDIM in both directions: the steps of diffusers' DDIM, their inverses, and guidance, against closed forms."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from contracts.published_contract import PublishedContract
from contracts.scheduler_contract import KINDS, MEAN, QUANTILES, STD, SchedulerContract, public
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from meddiffusers import ReversibleDDIMScheduler

Contract: Any = SchedulerContract()


class TestReversibleDDIM(SchedulerContract, PublishedContract):
    scheduler_class = ReversibleDDIMScheduler
    config = {"beta_schedule": "scaled_linear"}
    errors = {50: 0.055, 100: 0.028, 200: 0.0145}


def prediction(scheduler: Any, x: Tensor, timestep: Any, mean: float = MEAN, std: float = STD) -> Tensor:
    """The exact prediction for data N(mean, std²)."""
    a, sigma = Contract.marginal(scheduler, torch.as_tensor(timestep))
    sample = mean + a * std**2 * (x - a * mean) / (a**2 * std**2 + sigma**2)
    noise = (x - a * sample) / sigma
    kinds = {"sample": sample, "epsilon": noise, "v_prediction": a * noise - sigma * sample}
    return kinds[scheduler.config.prediction_type]


def invert(scheduler: Any, x: Tensor, iterations: int) -> Tensor:
    for timestep in scheduler.timesteps.flip(0):
        estimate = x
        for _ in range(iterations):
            estimate = scheduler.invert_step(
                prediction(scheduler, estimate, timestep), timestep, x, estimate
            ).next_sample
        x = estimate
    return x


def sample(scheduler: Any, x: Tensor) -> Tensor:
    for timestep in scheduler.timesteps:
        x = scheduler.step(prediction(scheduler, x, timestep), timestep, x).prev_sample
    return x


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1000, 50, 10, 1])
@pytest.mark.slow
def test_steps_are_those_of_ddim_where_its_grid_is_the_same(kind: str, count: int) -> None:
    ours = ReversibleDDIMScheduler(prediction_type=kind)
    theirs = DDIMScheduler(prediction_type=kind, clip_sample=False, timestep_spacing="trailing")
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(count)
    assert torch.equal(ours.timesteps, theirs.timesteps)
    x, output = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for timestep in ours.timesteps:
        (previous, clean), (expected, original) = (
            scheduler.step(output, timestep, x, return_dict=False) for scheduler in (ours, theirs)
        )
        torch.testing.assert_close(previous, expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(clean, original, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "strength"), [(50, 0.5), (7, 0.25), (20, 1.0), (4, 0.1)])
@pytest.mark.slow
def test_sampling_inverts_the_inversion(kind: str, count: int, strength: float) -> None:
    scheduler = ReversibleDDIMScheduler(prediction_type=kind)
    scheduler.set_timesteps(count, strength=strength)
    assert scheduler.timesteps[0] == round(1000 * strength) - 1
    errors = [(sample(scheduler, invert(scheduler, QUANTILES, n)) - QUANTILES).abs().max().item() for n in (1, 200)]
    assert errors[1] < 1e-6 < 0.01 * errors[0]


def test_more_iterations_are_more_exact() -> None:
    """At each step the error of the estimate shrinks by 1 − a σ' / (a' σ) or more."""
    scheduler = ReversibleDDIMScheduler()
    scheduler.set_timesteps(50, strength=0.5)
    errors = [(sample(scheduler, invert(scheduler, QUANTILES, n)) - QUANTILES).abs().max().item() for n in (1, 2, 3, 4)]
    assert all(later < 0.35 * earlier for earlier, later in itertools.pairwise(errors)), errors


def test_inversion_maps_the_data_to_unit_noise() -> None:
    """The ODE takes quantiles of the data to those of N(0, 1), and so does its inverse in small steps."""
    scheduler = ReversibleDDIMScheduler()
    scheduler.set_timesteps(500)
    torch.testing.assert_close(invert(scheduler, MEAN + STD * QUANTILES, 3), QUANTILES, rtol=0, atol=0.025)


@pytest.mark.parametrize("kind", KINDS)
def test_guidance_adds_to_the_score(kind: str) -> None:
    """For a measurement y = x_0 + noise, p(y | x_t) is Gaussian, and the guided prediction is that of x_0 given y."""
    scheduler = ReversibleDDIMScheduler(prediction_type=kind)
    measured, spread = -0.3, 0.4
    posterior_variance = 1 / (1 / STD**2 + 1 / spread**2)
    posterior_mean = posterior_variance * (MEAN / STD**2 + measured / spread**2)
    for timestep in (1, 100, 500, 900):
        a, sigma = Contract.marginal(scheduler, torch.tensor(timestep))
        x = QUANTILES.clone().requires_grad_()
        expected = MEAN + a * STD**2 * (x - a * MEAN) / (a**2 * STD**2 + sigma**2)
        variance = spread**2 + STD**2 * sigma**2 / (a**2 * STD**2 + sigma**2)
        [gradient] = torch.autograd.grad((-((measured - expected) ** 2) / (2 * variance)).sum(), x)
        guided = scheduler.add_guidance(prediction(scheduler, x.detach(), timestep), timestep, gradient)
        right = prediction(scheduler, x.detach(), timestep, posterior_mean, posterior_variance**0.5)
        torch.testing.assert_close(guided, right, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_only_the_image_is_clipped() -> None:
    scheduler = ReversibleDDIMScheduler(clip_sample=True, clip_sample_range=0.5)
    scheduler.set_timesteps(20, strength=0.5)
    image = QUANTILES.clamp(-0.5, 0.5)
    back = sample(scheduler, invert(scheduler, image, 100))
    torch.testing.assert_close(back, image, rtol=0, atol=1e-6)
    noisy = invert(scheduler, QUANTILES, 100)
    assert noisy.abs().max() > 1
    assert sample(scheduler, noisy).abs().max() == 0.5


def test_configurations_of_other_schedulers() -> None:
    settings: dict[str, Any] = {
        "beta_schedule": "scaled_linear",
        "prediction_type": "v_prediction",
        "clip_sample": False,
    }
    theirs = DDPMScheduler(**settings, variance_type="learned_range")
    ours = ReversibleDDIMScheduler.from_config(theirs.config)
    assert torch.equal(ours.alphas_cumprod, theirs.alphas_cumprod)
    assert public(DDPMScheduler.from_config(ours.config).config) == public(theirs.config)


def test_errors() -> None:
    with pytest.raises(ValueError, match="Expected prediction_type 'v_prediction' or 'sample'"):
        ReversibleDDIMScheduler(rescale_betas_zero_snr=True)
    scheduler = ReversibleDDIMScheduler()
    with pytest.raises(ValueError, match=r"strength=0; expected more than 0 and at most 1"):
        scheduler.set_timesteps(10, strength=0)
    with pytest.raises(
        ValueError, match=r"num_inference_steps=300; expected 1 to 250, .* strength=0.25 leaves of 1000"
    ):
        scheduler.set_timesteps(300, strength=0.25)
    scheduler.set_timesteps(10)
    with pytest.raises(ValueError, match="The timestep 500 is not on the grid"):
        scheduler.step(torch.zeros(1), 500, torch.zeros(1))
