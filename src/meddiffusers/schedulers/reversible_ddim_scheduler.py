"""Deterministic DDIM in both directions over one grid of times, so that noising an image and denoising it returns it.

Song et al. 2021, "Denoising diffusion implicit models", eq. 12 with η = 0:

    x_s = a_s x̂ + σ_s ε̂,    x̂ = (x_t − σ_t ε̂) / a_t,    x_t = a_t x_0 + σ_t ε

| symbol | here | |
|---|---|---|
| T, n | `num_train_timesteps`, `num_inference_steps` | |
| L | `strength` · T, rounded | how far the grid goes; T is pure noise |
| τ_k | round(k L / n) − 1, k = 0 … n | the nodes; τ_0 = −1 is the image itself, a = 1, σ = 0 |
| a_t, σ_t | √ᾱ_t, √(1 − ᾱ_t) | |
| ε̂ | of D(x_{τ_k}, τ_k), the network's output at the noisier end of a step | |

`step` goes from τ_k to τ_{k−1}, `invert_step` from τ_{k−1} to τ_k. Both take the network's output at the time τ_k,
which `timesteps` lists, so both speak of one map and its inverse. Going up, x_{τ_k} is what is looked for: the network
is first asked at a guess of it, x_{τ_{k−1}}, then at the result, and so on (a fixed point; Pan et al. 2023, "Effective
real image editing with accelerated iterative diffusion inversion"). One round is the usual, approximate inversion:

    for t in scheduler.timesteps.flip(0):
        guess = x
        for _ in range(rounds):
            guess = scheduler.invert_step(network(guess, t), t, x, guess).next_sample
        x = guess
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
    """`prev_sample`: x at τ_{k−1}; `pred_original_sample`: x̂. Both of the sample's shape."""

    prev_sample: Tensor
    pred_original_sample: Tensor


@dataclass
class ReversibleDDIMSchedulerInverseOutput(BaseOutput):
    """`next_sample`: x at τ_k, of the sample's shape."""

    next_sample: Tensor


class ReversibleDDIMScheduler(DDIMScheduler):
    """DDIM without noise of its own, whose steps have inverses.

    Configuration as of `DDIMScheduler`, of which it takes what has a meaning here; `from_config` works both ways.
    `clip_sample` clips x_0 to ±`clip_sample_range` once, after the last step: a clipped x̂ would have no inverse.

    Raises:
        ValueError: a noise schedule that ends at a = 0 with `prediction_type="epsilon"`, which then says nothing of x̂.
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
        super().__init__(  # by name: those given otherwise it would take for defaults
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
                "The noise schedule ends without any signal, where a prediction of the noise says nothing of the "
                "sample. Expected prediction_type 'v_prediction' or 'sample', or rescale_betas_zero_snr=False."
            )

    def set_timesteps(
        self, num_inference_steps: int, device: str | torch.device | None = None, strength: float = 1.0
    ) -> None:
        """Lay the grid: `timesteps` (n,), int64, from the noisiest on.

        strength: how far towards noise it goes, in (0, 1].

        Raises:
            ValueError: more steps than there are times, or a strength out of range.
        """
        times = self.config["num_train_timesteps"]
        if not 0 < strength <= 1:
            raise ValueError(f"strength={strength}; expected more than 0 and at most 1.")
        last = round(strength * times)
        if not 1 <= num_inference_steps <= last:
            raise ValueError(
                f"num_inference_steps={num_inference_steps}; expected 1 to {last}, the times that strength={strength} "
                f"leaves of {times}."
            )
        self.num_inference_steps: int | None = num_inference_steps  # type: ignore[assignment]
        nodes = (torch.arange(num_inference_steps, 0, -1, dtype=torch.float64) * last / num_inference_steps).round()
        self.timesteps = nodes.long().to(device) - 1

    def step(  # type: ignore[override]
        self, model_output: Tensor, timestep: int | Tensor, sample: Tensor, return_dict: bool = True
    ) -> ReversibleDDIMSchedulerOutput | tuple[Tensor, Tensor]:
        """x at τ_{k−1} from the sample at τ_k = timestep and the network's output there."""
        original, noise = self._split(model_output, timestep, sample)
        after = self._cleaner(timestep)
        a, sigma = self._scales(after)
        result = a * original + sigma * noise
        if after < 0 and self.config["clip_sample"]:
            result = result.clamp(-self.config["clip_sample_range"], self.config["clip_sample_range"])
        if not return_dict:
            return result, original
        return ReversibleDDIMSchedulerOutput(prev_sample=result, pred_original_sample=original)

    def invert_step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        guess: Tensor | None = None,
        return_dict: bool = True,
    ) -> ReversibleDDIMSchedulerInverseOutput | tuple[Tensor]:
        """x at τ_k = timestep from the sample at τ_{k−1}.

        model_output: of `guess` (of the sample if not given) at τ_k. The result is exact where it equals the guess.
        """
        _, noise = self._split(model_output, timestep, sample if guess is None else guess)
        (a, sigma), (a_after, sigma_after) = self._scales(int(timestep)), self._scales(self._cleaner(timestep))
        result = a / a_after * (sample - sigma_after * noise) + sigma * noise
        return ReversibleDDIMSchedulerInverseOutput(next_sample=result) if return_dict else (result,)

    def guided(self, model_output: Tensor, timestep: int | Tensor, gradient: Tensor) -> Tensor:
        """The output with `gradient` of a log-probability in x_t added to the score that it stands for.

        The score is −ε/σ, so ε becomes ε − σ g, x̂ becomes x̂ + σ² g / a and v becomes v − σ g / a (Dhariwal and Nichol
        2021, algorithm 2, of which this is the form for ε).
        """
        a, sigma = self._scales(int(timestep))
        factors = {"epsilon": -sigma, "sample": sigma**2 / a, "v_prediction": -sigma / a}
        return model_output + factors[self.config["prediction_type"]] * gradient

    def denoised(self, model_output: Tensor, timestep: int | Tensor, sample: Tensor) -> Tensor:
        """x̂, what the output says that x_0 is; of any time, on the grid or not."""
        return self._split(model_output, timestep, sample)[0]

    def to_json_string(self) -> str:
        """The configuration as JSON, without the folder it happened to be loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration and this file, so that the repository opens where the package is not installed."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))

    def _split(self, model_output: Tensor, timestep: int | Tensor, sample: Tensor) -> tuple[Tensor, Tensor]:
        """x̂ and ε̂."""
        (a, sigma), kind = self._scales(int(timestep)), self.config["prediction_type"]
        if kind == "epsilon":
            return (sample - sigma * model_output) / a, model_output
        if kind == "sample":
            return model_output, (sample - a * model_output) / sigma
        return a * sample - sigma * model_output, a * model_output + sigma * sample

    def _cleaner(self, timestep: int | Tensor) -> int:
        """τ_{k−1} of τ_k; ValueError where it is not on the grid."""
        place = (self.timesteps == int(timestep)).nonzero().flatten().tolist()
        if self.num_inference_steps is None or not place:
            raise ValueError(
                f"The time {int(timestep)} is not on the grid; expected one of `timesteps`, after set_timesteps(n)."
            )
        return int(self.timesteps[place[0] + 1]) if place[0] + 1 < len(self.timesteps) else -1

    def _scales(self, timestep: int) -> tuple[float, float]:
        """a and σ; at −1, of the image itself, 1 and 0."""
        signal = float(self.alphas_cumprod[timestep]) if timestep >= 0 else 1.0
        return signal**0.5, (1 - signal) ** 0.5
