"""What every scheduler promises. A subclass names the class, a configuration and how exact its sampling is:

    class TestDDIM(SchedulerContract):
        scheduler_class = DDIMScheduler
        config = {"clip_sample": False, "timestep_spacing": "trailing"}
        errors = {50: 0.06, 100: 0.03}

The oracle is data x₀ ~ N(m, s²), for which everything is known. With x_t = a x₀ + σ ε the best predictions are

    E[x₀ | x_t] = m + a s² (x_t − a m) / (a² s² + σ²),   E[ε | x_t] = (x_t − a E[x₀ | x_t]) / σ,
    E[v | x_t] = a E[ε | x_t] − σ E[x₀ | x_t],

and the probability-flow ODE keeps quantiles: x₀ = m + s (x_t − a m) / √(a² s² + σ²)  (Song et al. 2021, eq. 13;
the closed form follows because every marginal is Gaussian).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

MEAN, STD = 0.4, 0.5
QUANTILES = torch.linspace(-3, 3, 25, dtype=torch.float64)[:, None]
KINDS = ("epsilon", "sample", "v_prediction")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def public(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if not name.startswith("_")}


class SchedulerContract:
    scheduler_class: ClassVar[Any]  # a SchedulerMixin with ConfigMixin
    config: ClassVar[dict[str, Any]] = {}
    kinds: ClassVar[tuple[str, ...]] = KINDS  # prediction types it takes
    stochastic: ClassVar[bool] = False  # whether `step` adds noise
    errors: ClassVar[dict[int, float]]  # {steps: largest error on Gaussian data}, see `test_gaussian_data`

    def build(self, **config: Any) -> Any:
        return self.scheduler_class(**{**self.config, **config})

    def marginal(self, scheduler: Any, timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """a and σ at a timestep."""
        signal = scheduler.alphas_cumprod.double()[timestep.long()]
        return signal.sqrt(), (1 - signal).sqrt()

    def prediction(self, scheduler: Any, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """The best prediction for N(MEAN, STD²), of the kind that the scheduler expects."""
        a, sigma = self.marginal(scheduler, timestep)
        sample = MEAN + a * STD**2 * (x - a * MEAN) / (a**2 * STD**2 + sigma**2)
        epsilon = (x - a * sample) / sigma
        kinds = {"sample": sample, "epsilon": epsilon, "v_prediction": a * epsilon - sigma * sample}
        return kinds[scheduler.config.prediction_type]

    def sampled(self, scheduler: Any, noise: torch.Tensor, steps: int, seed: int = 0) -> torch.Tensor:
        """What `noise`, (N, 1) of unit scale, becomes."""
        scheduler.set_timesteps(steps)
        x, rng = noise * scheduler.init_noise_sigma, generator(seed)
        for timestep in scheduler.timesteps:
            seen = scheduler.scale_model_input(x, timestep)
            x = scheduler.step(self.prediction(scheduler, seen, timestep), timestep, x, **self.drawing(rng)).prev_sample
        return x

    def drawing(self, rng: torch.Generator) -> dict[str, Any]:
        return {"generator": rng} if self.stochastic else {}

    # Configuration

    def test_save_and_load(self, tmp_path: Path) -> None:
        scheduler = self.build()
        scheduler.save_pretrained(tmp_path)
        loaded = self.scheduler_class.from_pretrained(tmp_path)
        assert public(loaded.config) == public(scheduler.config)
        assert all(scheduler.config[name] == value for name, value in self.config.items())
        assert torch.equal(self.sampled(loaded, QUANTILES, 7), self.sampled(scheduler, QUANTILES, 7))

    def test_compatible_schedulers_keep_the_configuration(self) -> None:
        scheduler = self.build()
        compatible = [other for other in scheduler.compatibles if not hasattr(other, "_backends")]  # installed
        assert len(compatible) > 1
        for other in compatible:
            there = other.from_config(scheduler.config)
            assert public(self.scheduler_class.from_config(there.config).config).items() >= public(self.config).items()
            shared = set(public(there.config)) & set(self.config)
            assert {name: there.config[name] for name in shared} == {name: self.config[name] for name in shared}

    # The noising process

    def test_what_the_network_sees_of_a_noised_sample(self) -> None:
        scheduler = self.build()
        scheduler.set_timesteps(50)
        x, noise = torch.randn(2, 50, 3, generator=generator(), dtype=torch.float64)
        noised = scheduler.add_noise(x, noise, scheduler.timesteps)
        for index, timestep in enumerate(scheduler.timesteps):
            a, sigma = self.marginal(scheduler, timestep)
            seen = scheduler.scale_model_input(noised[index], timestep)
            torch.testing.assert_close(seen, a * x[index] + sigma * noise[index], rtol=0, atol=2e-5)
        if hasattr(scheduler, "get_velocity"):
            a, sigma = (factor[:, None] for factor in self.marginal(scheduler, scheduler.timesteps))
            velocity = scheduler.get_velocity(x, noise, scheduler.timesteps)
            torch.testing.assert_close(velocity, a * noise - sigma * x, rtol=0, atol=2e-5)

    # Steps

    @pytest.mark.parametrize("count", [1, 2, 7, 50, 999])
    def test_timesteps(self, count: int) -> None:
        scheduler = self.build()
        scheduler.set_timesteps(count)
        assert scheduler.num_inference_steps == len(scheduler.timesteps) == count
        assert (scheduler.timesteps.diff() < 0).all()
        assert 0 <= scheduler.timesteps[-1] <= scheduler.timesteps[0] < scheduler.config.num_train_timesteps
        scheduler.set_timesteps(count, device="meta")
        assert scheduler.timesteps.device.type == "meta"

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_step(self, dtype: torch.dtype) -> None:
        sample, model_output = torch.randn(2, 3, 1, 4, 4, generator=generator()).to(dtype)
        previous = []
        for seed, return_dict in [(0, True), (0, False), (1, True)]:
            scheduler = self.build()
            scheduler.set_timesteps(5)
            arguments = model_output, scheduler.timesteps[0], sample
            previous.append(scheduler.step(*arguments, return_dict=return_dict, **self.drawing(generator(seed)))[0])
        assert previous[0].dtype == dtype and previous[0].shape == sample.shape
        assert torch.equal(previous[0], previous[1])
        assert torch.equal(previous[0], previous[2]) != self.stochastic

    def test_a_second_run_is_as_the_first(self) -> None:
        scheduler = self.build()
        assert torch.equal(self.sampled(scheduler, QUANTILES, 5), self.sampled(scheduler, QUANTILES, 5))

    # Sampling Gaussian data

    def test_prediction_types_agree(self) -> None:
        samples = [self.sampled(self.build(prediction_type=kind), QUANTILES, 20) for kind in self.kinds]
        for other in samples[1:]:
            torch.testing.assert_close(other, samples[0], rtol=0, atol=1e-4)

    def test_gaussian_data(self) -> None:
        """Distance of a deterministic sampler's map from the ODE's over ±3 standard deviations; for a stochastic one
        that of the moments of 40,000 samples from the data's (three standard errors: 0.0075 and 0.0053).
        """
        measure = self.moment_error if self.stochastic else self.ode_error
        errors = {steps: measure(steps) for steps in self.errors}
        assert all(errors[steps] < self.errors[steps] for steps in errors), errors

    def moment_error(self, steps: int) -> float:
        samples = self.sampled(self.build(), torch.randn(40_000, 1, generator=generator(1)), steps)
        return max(abs(samples.mean().item() - MEAN), abs(samples.std().item() - STD))

    def ode_error(self, steps: int) -> float:
        scheduler = self.build()
        samples = self.sampled(scheduler, QUANTILES, steps)
        scheduler.set_timesteps(steps)
        first = scheduler.timesteps[0]
        a, sigma = self.marginal(scheduler, first)
        start = scheduler.scale_model_input(QUANTILES * scheduler.init_noise_sigma, first)
        exact = MEAN + STD * (start - a * MEAN) / (a**2 * STD**2 + sigma**2).sqrt()
        return (samples - exact).abs().max().item()
