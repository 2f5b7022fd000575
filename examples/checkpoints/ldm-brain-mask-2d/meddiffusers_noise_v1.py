"""The noise that a network was trained with, and a step that removes some of it.

| kind of noise | x_t = a x_0 + σ ε | `prediction_type`: what the network predicts |
|---|---|---|
| diffusion (Ho et al.) | a² = ᾱ_t, σ² = 1 − ᾱ_t | "epsilon": ε; "sample": x_0; "v_prediction": a ε − σ x_0 |
| flow matching (Lipman et al.) | a = 1 − σ, σ = t / T | "flow_prediction": ε − x_0 |

Several published pipelines import this file from beside them; it is published with each.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from .meddiffusers_checks_v1 import check_finite

PUBLISHED_AS = "meddiffusers_noise_v1"  # the file has the same name in a repository, so imports find it in both places
FLOW = "flow_prediction"
PREDICTION_TYPES = ("epsilon", "sample", "v_prediction", FLOW)
BETAS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
)


def describe_noise(scheduler: Any) -> dict[str, Any] | None:
    """Describe the noise of the networks that a scheduler is for, in the form that `noise_schedule` has.

    Args:
        scheduler: The scheduler that a network was trained with; None gives None.

    Returns:
        Entries of a scheduler's configuration: `prediction_type`, `num_train_timesteps` and, of diffusion, the betas.
    """
    if scheduler is None:
        return None
    kind = scheduler.config.get("prediction_type") or "epsilon"
    if kind == FLOW or not hasattr(scheduler, "alphas_cumprod"):
        return {"prediction_type": FLOW, "num_train_timesteps": scheduler.config.get("num_train_timesteps", 1000)}
    betas = {name: scheduler.config[name] for name in BETAS if name in scheduler.config}
    if hasattr(betas.get("trained_betas"), "tolist"):
        betas["trained_betas"] = betas["trained_betas"].tolist()
    return {"prediction_type": kind, **betas}


def alphas_cumprod(noise_schedule: Mapping[str, Any]) -> torch.Tensor:
    """Return ᾱ_t (T,) of the noise of diffusion, see `describe_noise`."""
    return _alphas_cumprod(json.dumps({name: noise_schedule[name] for name in BETAS if name in noise_schedule}))


def noise_scales(noise_schedule: Mapping[str, Any], timestep: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a and σ at any real timestep, between those of training by linear interpolation of ᾱ."""
    if noise_schedule["prediction_type"] == FLOW:
        sigma = torch.as_tensor(timestep, dtype=torch.float32) / noise_schedule["num_train_timesteps"]
        return 1 - sigma, sigma
    products = alphas_cumprod(noise_schedule)
    time = torch.as_tensor(timestep, dtype=torch.float32).clamp(0, len(products) - 1)
    below, above = products[time.floor().long()], products[time.ceil().long()]
    product = below + (above - below) * time.frac()
    return product.sqrt(), (1 - product).sqrt()


def uses_learned_variance(scheduler: Any) -> bool:
    """Return whether steps use a variance that the network predicts beside the mean."""
    # an attribute of schedulers that use it; the configuration may come from another scheduler
    return vars(scheduler).get("variance_type") in ("learned", "learned_range")


def scale_noise(scheduler: Any, noise: torch.Tensor) -> torch.Tensor:
    """Scale unit noise to the latents from which a scheduler starts, after its `set_timesteps`."""
    return noise * getattr(scheduler, "init_noise_sigma", 1.0)


def add_noise(scheduler: Any, clean: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """Add the noise of a timestep (1,) to clean latents (B, …), as a scheduler scales both."""
    times = timestep.expand(len(clean))
    if hasattr(scheduler, "add_noise"):
        return scheduler.add_noise(clean, noise, times)
    return scheduler.scale_noise(clean, times, noise)  # of flow matching


def remaining_timesteps(scheduler: Any, steps: int, strength: float) -> torch.Tensor:
    """Return the last timesteps, the fraction `strength` of the schedule, and let a scheduler begin there."""
    first = (steps - max(1, int(steps * strength))) * getattr(scheduler, "order", 1)
    if first and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    return scheduler.timesteps[first:]


def denoising_step(
    scheduler: Any,
    predict: Callable[[torch.Tensor, Any], torch.Tensor],
    x: torch.Tensor,
    i: int,
    t: Any,
    generator: torch.Generator | list[torch.Generator] | None = None,
    eta: float = 0.0,
) -> torch.Tensor:
    """Denoise latents by one step.

    Args:
        scheduler: The scheduler, after its `set_timesteps`.
        predict: The network's prediction as a function of its input and the timestep.
        x: Latents (B, …).
        i: Number of the step, from 0.
        t: Its timestep.
        generator: For schedulers that add noise.
        eta: η of Song et al. 2021, of schedulers that have it.

    Raises:
        ValueError: If the prediction holds NaN or infinite values.
    """
    kind: Any = type(scheduler)
    given = {"generator": generator, "eta": eta}
    scale = getattr(scheduler, "scale_model_input", lambda sample, timestep: sample)  # flow matching has none
    predicted = predict(scale(x, t), t)
    check_finite(predicted, "unet", f"step {i + 1} of {len(scheduler.timesteps)} (timestep {float(t):g})")
    extra = {name: value for name, value in given.items() if name in _step_parameters(kind)}
    return scheduler.step(predicted, t, x, **extra).prev_sample.to(x.dtype)


@lru_cache
def _step_parameters(scheduler_class: Any) -> frozenset[str]:
    return frozenset(inspect.signature(scheduler_class.step).parameters)


@lru_cache
def _alphas_cumprod(betas: str) -> torch.Tensor:
    with torch.device("cpu"):
        return DDPMScheduler(**json.loads(betas)).alphas_cumprod
