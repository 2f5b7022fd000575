"""Deterministic DDIM in both directions on one grid of timesteps: inversion followed by sampling returns the image.

Song et al. 2021, "Denoising diffusion implicit models", eq. 12 with η = 0:

    x_s = a_s x̂ + σ_s ε̂,    x̂ = (x_t − σ_t ε̂) / a_t,    x_t = a_t x_0 + σ_t ε

| symbol | here | |
|---|---|---|
| T, n | `num_train_timesteps`, `num_inference_steps` | |
| L | `strength` · T, rounded | length of the grid; T is pure noise |
| τ_k | round(k L / n) − 1, k = 0 … n | the nodes; τ_0 = −1 is the image itself, a = 1, σ = 0 |
| a_t, σ_t | √ᾱ_t, √(1 − ᾱ_t) | |
| ε̂ | from D(x_{τ_k}, τ_k), the network's output at the noisier end of a step | |

`step` goes from τ_k to τ_{k−1}, `invert_step` from τ_{k−1} to τ_k. Both take the network's output at the timestep τ_k,
one of `timesteps`, so they are a map and its inverse. In the inversion x_{τ_k} is unknown: the network is evaluated at
an estimate of it, first x_{τ_{k−1}}, then the result, and so on (a fixed-point iteration; Pan et al. 2023, "Effective
real image editing with accelerated iterative diffusion inversion"). One iteration is the usual, approximate inversion:

    for t in scheduler.timesteps.flip(0):
        estimate = x
        for _ in range(num_inversion_iterations):
            estimate = scheduler.invert_step(network(estimate, t), t, x, estimate).next_sample
        x = estimate
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.utils import BaseOutput
from torch import Tensor

PUBLISHED_AS = "meddiffusers_reversible_ddim_scheduler_v1"  # library name in model_index.json, file name of a copy


@dataclass
class ReversibleDDIMSchedulerOutput(BaseOutput):
    """Output of `step`.

    Args:
        prev_sample: x at τ_{k−1}, of the shape of the sample.
        pred_original_sample: x̂, of the same shape.
    """

    prev_sample: Tensor
    pred_original_sample: Tensor


@dataclass
class ReversibleDDIMSchedulerInverseOutput(BaseOutput):
    """Output of `invert_step`.

    Args:
        next_sample: x at τ_k, of the shape of the sample.
    """

    next_sample: Tensor


class ReversibleDDIMScheduler(DDIMScheduler):
    """Deterministic DDIM (η = 0), whose steps have inverses.

    The arguments are those of `DDIMScheduler` that apply here; `from_config` works in both directions.

    Args:
        num_train_timesteps: T.
        beta_start: First β.
        beta_end: Last β.
        beta_schedule: Name of the noise schedule.
        trained_betas: The betas themselves, instead of a schedule.
        clip_sample: Clip x_0 to ±`clip_sample_range`, once after the last step: a clipped x̂ would have no inverse.
        clip_sample_range: Range of `clip_sample`.
        prediction_type: What the network predicts.
        rescale_betas_zero_snr: Rescale the betas to a schedule that ends with pure noise.

    Raises:
        ValueError: If the noise schedule ends at a = 0 with `prediction_type="epsilon"`, which does not determine x̂.
    """

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: list[float] | None = None,
        clip_sample: bool = False,
        clip_sample_range: float = 1.0,
        prediction_type: Literal["epsilon", "sample", "v_prediction"] = "epsilon",
        rescale_betas_zero_snr: bool = False,
    ) -> None:
        super().__init__(  # as keywords: it takes positional arguments for defaults
            num_train_timesteps=num_train_timesteps,
            beta_start=beta_start,
            beta_end=beta_end,
            beta_schedule=beta_schedule,
            trained_betas=trained_betas,
            clip_sample=clip_sample,
            clip_sample_range=clip_sample_range,
            prediction_type=prediction_type,
            rescale_betas_zero_snr=rescale_betas_zero_snr,
        )
        self.__module__ = PUBLISHED_AS  # what diffusers writes as this component's library
        if self.alphas_cumprod[-1] == 0 and prediction_type == "epsilon":
            raise ValueError(
                "The noise schedule ends without any signal, where a prediction of the noise does not determine the "
                "sample. Expected prediction_type 'v_prediction' or 'sample', or rescale_betas_zero_snr=False."
            )

    def set_timesteps(
        self, num_inference_steps: int, device: str | torch.device | None = None, strength: float = 1.0
    ) -> None:
        """Set the grid `timesteps` (n,), int64, from the noisiest on.

        Args:
            num_inference_steps: n.
            device: Device of the timesteps.
            strength: How far towards pure noise the grid goes, in (0, 1].

        Raises:
            ValueError: If there are more steps than timesteps, or if the strength is out of range.
        """
        times = self.config["num_train_timesteps"]
        if not 0 < strength <= 1:
            raise ValueError(f"strength={strength}; expected more than 0 and at most 1.")
        last = round(strength * times)
        if not 1 <= num_inference_steps <= last:
            raise ValueError(
                f"num_inference_steps={num_inference_steps}; expected 1 to {last}, the timesteps that "
                f"strength={strength} leaves of {times}."
            )
        self.num_inference_steps: int | None = num_inference_steps  # type: ignore[assignment]
        nodes = (torch.arange(num_inference_steps, 0, -1, dtype=torch.float64) * last / num_inference_steps).round()
        self.timesteps = nodes.long().to(device) - 1

    def step(  # type: ignore[override]
        self, model_output: Tensor, timestep: int | Tensor, sample: Tensor, return_dict: bool = True
    ) -> ReversibleDDIMSchedulerOutput | tuple[Tensor, Tensor]:
        """Compute x at τ_{k−1}.

        Args:
            model_output: Network's output for the sample at τ_k.
            timestep: τ_k.
            sample: x at τ_k.
            return_dict: Return a [`ReversibleDDIMSchedulerOutput`] instead of a tuple.
        """
        original, noise = self._split(model_output, timestep, sample)
        previous = self._previous_timestep(timestep)
        a, sigma = self._scales(previous)
        result = a * original + sigma * noise
        if previous < 0 and self.config["clip_sample"]:
            result = result.clamp(-self.config["clip_sample_range"], self.config["clip_sample_range"])
        if not return_dict:
            return result, original
        return ReversibleDDIMSchedulerOutput(prev_sample=result, pred_original_sample=original)

    def invert_step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        estimate: Tensor | None = None,
        return_dict: bool = True,
    ) -> ReversibleDDIMSchedulerInverseOutput | tuple[Tensor]:
        """Compute x at τ_k from x at τ_{k−1}; exact if the result equals the estimate.

        Args:
            model_output: Network's output for `estimate` at τ_k.
            timestep: τ_k.
            sample: x at τ_{k−1}.
            estimate: Estimate of x at τ_k; the sample by default.
            return_dict: Return a [`ReversibleDDIMSchedulerInverseOutput`] instead of a tuple.
        """
        _, noise = self._split(model_output, timestep, sample if estimate is None else estimate)
        a, sigma = self._scales(int(timestep))
        a_before, sigma_before = self._scales(self._previous_timestep(timestep))
        result = a / a_before * (sample - sigma_before * noise) + sigma * noise
        return ReversibleDDIMSchedulerInverseOutput(next_sample=result) if return_dict else (result,)

    def add_guidance(self, model_output: Tensor, timestep: int | Tensor, gradient: Tensor) -> Tensor:
        """Add the gradient of a log-probability in x_t to the score that the network's output represents.

        The score is −ε/σ, so ε becomes ε − σ g, x̂ becomes x̂ + σ² g / a and v becomes v − σ g / a (Dhariwal and Nichol
        2021, algorithm 2, of which this is the form for ε).
        """
        a, sigma = self._scales(int(timestep))
        factors = {"epsilon": -sigma, "sample": sigma**2 / a, "v_prediction": -sigma / a}
        return model_output + factors[self.config["prediction_type"]] * gradient

    def predict_original_sample(self, model_output: Tensor, timestep: int | Tensor, sample: Tensor) -> Tensor:
        """Compute x̂, the prediction of x_0, at any timestep, on the grid or not."""
        return self._split(model_output, timestep, sample)[0]

    def to_json_string(self) -> str:
        """Return the configuration as JSON, without the folder that it was loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration and this file, so that the repository opens where the package is not installed."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))

    def _split(self, model_output: Tensor, timestep: int | Tensor, sample: Tensor) -> tuple[Tensor, Tensor]:
        """Compute x̂ and ε̂."""
        (a, sigma), kind = self._scales(int(timestep)), self.config["prediction_type"]
        if kind == "epsilon":
            return (sample - sigma * model_output) / a, model_output
        if kind == "sample":
            return model_output, (sample - a * model_output) / sigma
        return a * sample - sigma * model_output, a * model_output + sigma * sample

    def _previous_timestep(self, timestep: int | Tensor) -> int:
        """Return τ_{k−1} of τ_k; raise a ValueError if this is not on the grid."""
        place = (self.timesteps == int(timestep)).nonzero().flatten().tolist()
        if self.num_inference_steps is None or not place:
            raise ValueError(
                f"The timestep {int(timestep)} is not on the grid; expected one of `timesteps`, after set_timesteps(n)."
            )
        return int(self.timesteps[place[0] + 1]) if place[0] + 1 < len(self.timesteps) else -1

    def _scales(self, timestep: int) -> tuple[float, float]:
        """Return a and σ; 1 and 0 at −1, the image itself."""
        signal = float(self.alphas_cumprod[timestep]) if timestep >= 0 else 1.0
        return signal**0.5, (1 - signal) ** 0.5
