"""Ensembles of data for which everything is known: each pixel is N(m, s²), and m and s are what the image shows.

The network is the exact denoiser, E[x₀ | x_t] = m + G (x_t − a m) with G = a s² / (a² s² + σ²), x_t = a x₀ + σ ε. So
each step of a sampler is x ↦ p x + q + r z with z ~ N(0, 1), and the law of its result is known:

| sampler | p | q | r² |
|---|---|---|---|
| DDIM, Euler (Song et al. 2021, eq. 12, η = 0) | a' G + σ' (1 − a G) / σ | (a' − a σ' / σ) m (1 − a G) | 0 |
| DDPM, ancestral Euler (Ho et al. 2020, eq. 7) | c G + d | c m (1 − a G) | β̃ |
| DDPM with a learned variance of q(x' | x) | c G + d | c m (1 − a G) | β̃ + c² σ² s² / (a² s² + σ²) |

a', σ' are those after the step, β = 1 − a² / a'², β̃ = β σ'² / σ², c = a' β / σ², d = a σ'² / (a' σ²). The last one is
exact with any number of steps. The solvers of higher order are measured against m and s themselves.

All start from N(0, 1), where the data have got to N(a m, a² s² + σ²) with a = 0.0064: the mean may keep an error of
0.0064 m.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from contracts.pipeline_contract import generator
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from meddiffusers import ConditionalSegmentationPipeline

STEPS = (1000, 250, 50, 20, 10, 5, 2, 1)
SCHEDULE: dict[str, Any] = {
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "prediction_type": "v_prediction",
}
SIGNAL = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)  # a²
GRID = torch.stack(torch.meshgrid(torch.linspace(0, 1, 4), torch.tensor([0.2, 0.3, 0.5, 1.0]), indexing="ij"))
MEAN, STD = GRID.double()

Step = Callable[[Tensor, Tensor, int, int], tuple[Tensor, Tensor, Tensor | float]]  # of m, s and the times: p, q, r²


def scales(time: int) -> tuple[float, float]:
    """a and σ; after the last step there is no noise."""
    signal = SIGNAL[time].item() if time >= 0 else 1.0
    return signal**0.5, (1 - signal) ** 0.5


def gain(s: Tensor, time: int) -> Tensor:
    a, sigma = scales(time)
    return a * s**2 / (a**2 * s**2 + sigma**2)


def variances(time: int, after: int) -> tuple[float, float]:
    """β̃ and β."""
    beta = 1 - (scales(time)[0] / scales(after)[0]) ** 2
    return beta * (scales(after)[1] / scales(time)[1]) ** 2, beta


def ddim(m: Tensor, s: Tensor, time: int, after: int) -> tuple[Tensor, Tensor, float]:
    (a, sigma), (a_after, sigma_after), g = scales(time), scales(after), gain(s, time)
    rest = 1 - a * g
    return a_after * g + sigma_after * rest / sigma, (a_after - a * sigma_after / sigma) * m * rest, 0.0


def ddpm(m: Tensor, s: Tensor, time: int, after: int) -> tuple[Tensor, Tensor, float]:
    (a, sigma), (a_after, sigma_after), g = scales(time), scales(after), gain(s, time)
    small, beta = variances(time, after)
    c, d = a_after * beta / sigma**2, a * sigma_after**2 / (a_after * sigma**2)
    return c * g + d, c * m * (1 - a * g), small


def exact(m: Tensor, s: Tensor, time: int, after: int) -> tuple[Tensor, Tensor, Tensor]:
    (a, sigma), (a_after, _) = scales(time), scales(after)
    p, q, small = ddpm(m, s, time, after)
    c = a_after * variances(time, after)[1] / sigma**2
    return p, q, small + c**2 * sigma**2 * s**2 / (a**2 * s**2 + sigma**2)


def law(step: Step, steps: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the results."""
    mean, variance = torch.zeros_like(MEAN), torch.ones_like(MEAN)
    for time in range(999, -1, -1000 // steps):
        p, q, noise_variance = step(MEAN, STD, time, time - 1000 // steps)
        mean, variance = p * mean + q, p**2 * variance + noise_variance
    return mean, variance.sqrt()


class GaussianDenoiser(ModelMixin, ConfigMixin):
    """The best prediction for images (B, 2, H, W) that show m and s.

    interval: timesteps between steps, if the variance is learned: its logarithm as a place between those of β̃ and β,
        −1 to 1, follows the prediction (Nichol & Dhariwal 2021, eq. 15).
    """

    stride = 1  # of images of any size

    @register_to_config
    def __init__(
        self, image_channels: int = 2, mask_channels: int = 1, kind: str = "sample", interval: int = 0
    ) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))  # a model's dtype and device are those of its parameters

    def encode_image(self, image: Tensor) -> Tensor:
        return image

    def forward(self, sample: Tensor, timestep: Tensor, features: Tensor) -> SimpleNamespace:
        m, s = features.repeat_interleave(len(sample) // len(features), dim=0).split(1, dim=1)
        time, after = int(timestep), int(timestep) - self.config["interval"]
        a, sigma = scales(time)
        x = m + gain(s, time) * (sample - a * m)
        noise = (sample - a * x) / sigma
        predicted = {"epsilon": noise, "sample": x, "v_prediction": a * noise - sigma * x}[self.config["kind"]]
        if after < time:
            low, high = torch.tensor(variances(time, after)).clamp_min(1e-20).log()
            place = (exact(m, s, time, after)[2].log() - low) / (high - low)
            predicted = torch.cat([predicted, 2 * place - 1], dim=1)
        return SimpleNamespace(sample=predicted)


def pipeline_of(scheduler: Any, interval: int = 0) -> ConditionalSegmentationPipeline:
    denoiser = GaussianDenoiser(kind=scheduler.config["prediction_type"], interval=interval)
    pipeline = ConditionalSegmentationPipeline(
        denoiser, scheduler, modalities=["mean", "deviation"], mask_range=(0.0, 1.0)
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample(scheduler: Any, steps: int, members: int = 8, interval: int = 0) -> tuple[Tensor, Tensor]:
    """Noise and the pipeline's result before it is clipped, (members, 4, 4) on the grid of m and s."""
    pipeline = pipeline_of(scheduler, interval)
    pipeline._interrupt = False
    noise = pipeline.prepare_latents(1, members, (4, 4), generator(0))
    pipeline.scheduler.set_timesteps(steps)
    masks = pipeline._denoise(GRID[None, None], noise[None], generator(1), None, (), pipeline.progress_bar(total=steps))
    return noise[:, 0].double(), masks[0, :, 0].double()


def assert_sampled_from(samples: Tensor, mean: Tensor, std: Tensor) -> None:
    """By the moments of 4096 · 16 samples; three standard errors are 0.012 of a mean and 0.0083 of a deviation."""
    standard = (samples - mean) / std
    assert abs(standard.mean().item()) < 0.012
    assert abs(standard.std().item() - 1) < 0.0083


@pytest.mark.parametrize("steps", STEPS)
class TestClosedForms:
    @pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
    @pytest.mark.parametrize(("scheduler", "error"), [(DDIMScheduler, 1e-4), (EulerDiscreteScheduler, 2e-4)])
    @pytest.mark.slow
    def test_deterministic_samplers(self, scheduler: Any, error: float, kind: str, steps: int) -> None:
        """The result is an affine function of the noise. Euler begins with noise of σ, not 1, hence a larger error."""
        noise, samples = sample(scheduler.from_config({**SCHEDULE, "prediction_type": kind}), steps)
        mean, std = law(ddim, steps)
        torch.testing.assert_close(samples, mean + std * noise, rtol=0, atol=error)

    @pytest.mark.parametrize("scheduler", [DDPMScheduler, EulerAncestralDiscreteScheduler])
    @pytest.mark.slow
    def test_stochastic_samplers(self, scheduler: Any, steps: int) -> None:
        samples = sample(scheduler.from_config(SCHEDULE), steps, 4096)[1]
        assert_sampled_from(samples, *law(ddpm, steps))

    @pytest.mark.slow
    def test_the_learned_variance_is_exact_with_any_number_of_steps(self, steps: int) -> None:
        scheduler = DDPMScheduler(**SCHEDULE, variance_type="learned_range")
        samples = sample(scheduler, steps, 4096, interval=1000 // steps)[1]
        assert_sampled_from(samples, *law(exact, steps))
        assert_sampled_from(samples, MEAN, STD)


@pytest.mark.parametrize(
    ("step", "errors"),
    [
        (ddim, {1000: 0.008, 250: 0.029, 50: 0.14, 20: 0.31, 10: 0.52, 5: 0.75, 2: 0.95, 1: 1}),
        (ddpm, {1000: 0.02, 250: 0.063, 50: 0.21, 20: 0.37, 10: 0.54, 5: 0.75, 2: 0.95, 1: 1}),
        (exact, dict.fromkeys(STEPS, 1e-9)),
    ],
)
def test_what_few_steps_cost(step: Step, errors: dict[int, float]) -> None:
    """The share of s by which the deviation errs at worst, where s = 0.2; the mean is right with any number."""
    for steps, error in errors.items():
        mean, std = law(step, steps)
        assert (mean - MEAN).abs().max() < 0.0064
        assert (std / STD - 1).abs().max() < error


SOLVERS: list[tuple[Any, float, tuple[float, ...]]] = [  # largest errors of m, and of s with each number of STEPS
    (DPMSolverMultistepScheduler, 0.0065, (2e-4, 5e-4, 0.012, 0.053, 0.11, 0.27, 0.75, 1)),
    (UniPCMultistepScheduler, 0.0065, (3e-4, 0.001, 0.012, 0.052, 0.11, 0.25, 0.75, 1)),
    (HeunDiscreteScheduler, 0.0065, (3e-4, 0.0015, 0.012, 0.046, 0.1, 0.19, 0.42, 1)),
    (PNDMScheduler, 0.013, (3e-4, 5e-4, 5e-4, 0.012, 0.054, 0.12, 0.85, 1)),
]


@pytest.mark.parametrize(("solver", "mean_error", "errors"), SOLVERS)
@pytest.mark.slow
def test_solvers_of_higher_order(solver: Any, mean_error: float, errors: tuple[float, ...]) -> None:
    """Mean and deviation as offset and slope of the affine function that the sampler is."""
    config = {**SCHEDULE, "prediction_type": "epsilon", "skip_prk_steps": True}
    for steps, error in zip(STEPS, errors, strict=True):
        noise, samples = sample(solver.from_config(config), steps)
        centred = noise - noise.mean(dim=0)
        slope = (centred * samples).sum(dim=0) / centred.square().sum(dim=0)
        offset = samples.mean(dim=0) - slope * noise.mean(dim=0)
        # multistep solvers extrapolate, which amplifies rounding errors: 3e-4 with PNDM on some instruction sets
        torch.testing.assert_close(samples, offset + slope * noise, rtol=0, atol=1e-3)
        assert (offset - MEAN).abs().max() < mean_error, steps
        assert (slope.abs() - STD).abs().max() < error, steps


@pytest.mark.parametrize(
    ("solver", "other"),
    [
        (DDPMScheduler, "sample"),
        (DPMSolverMultistepScheduler, "sample"),
        (UniPCMultistepScheduler, "sample"),
        (HeunDiscreteScheduler, "sample"),
        (EulerAncestralDiscreteScheduler, "epsilon"),
    ],
)
def test_prediction_types_agree(solver: Any, other: str) -> None:
    """Not of PNDM, which adds up velocities of different timesteps as if they were of one: use "epsilon" there."""
    expected = sample(solver.from_config(SCHEDULE), 20)[1]
    for kind in ("epsilon", other):
        samples = sample(solver.from_config({**SCHEDULE, "prediction_type": kind}), 20)[1]
        torch.testing.assert_close(samples, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [50, 5])
def test_probability_and_variance_are_those_of_clipped_gaussians(steps: int) -> None:
    """Through `__call__`, 4096 members; expectations by quadrature over 20,000 quantiles."""
    quantiles = torch.special.ndtri((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000)
    masks = (MEAN + STD * quantiles[:, None, None]).clamp(0, 1)
    pipeline = pipeline_of(DDPMScheduler(**SCHEDULE, variance_type="learned_range"), interval=1000 // steps)
    output = pipeline(GRID, steps, ensemble_size=4096, generator=generator(0), output_type="pt")
    torch.testing.assert_close(output.probability[0, 1].double(), masks.mean(dim=0), rtol=0, atol=0.02)
    variance = output.uncertainty["variance"][0].double()
    torch.testing.assert_close(variance, masks.var(dim=0, correction=0), rtol=0, atol=0.01)
