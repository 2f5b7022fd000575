"""Check at each call that a scheduler samples from a pipeline's network.

A network fits one kind of noise, that of its training. A pipeline keeps a description of it in its configuration,
`noise_schedule`, so that a scheduler assigned later (`pipe.scheduler = …`) is compared with it.

Whether a scheduler samples from such a network is not looked up but tried: it denoises pixels whose distribution is a
known Gaussian, with the exact network for it. This takes some milliseconds, once for each configuration.

- For diffusion serve DDIM, DDPM, DPM-Solver (multistep and singlestep), UniPC, DEIS, SA-Solver, Euler and KDPM2 (both
  also ancestral), Heun, LMS and PNDM of diffusers, those of them that know the prediction type.
- For flow matching serve FlowMatchEuler and FlowMatchHeun, and DPM-Solver, UniPC, DEIS and SA-Solver with
  `use_flow_sigmas=True` and `prediction_type="flow_prediction"`.
- Refused are other scalings of the noise (EDM, variance-exploding), other betas, inverse schedulers, and those of
  distilled models (LCM, consistency models), of tokens (VQ-Diffusion, aMUSEd) and of other special models.

Several published pipelines import this file from beside them; it is published with each.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch

from .meddiffusers_checks_v1 import check_counts
from .meddiffusers_noise_v1 import (
    FLOW,
    PREDICTION_TYPES,
    add_noise,
    alphas_cumprod,
    denoising_step,
    describe_noise,
    noise_scales,
    remaining_timesteps,
    scale_noise,
    uses_learned_variance,
)

PUBLISHED_AS = "meddiffusers_sampling_v1"  # also its file name here, so that imports find it in both places
MIDDLE = 0.1  # the part of the steps that is tried where sampling starts from noised images
REVERSIBLE = ("invert_step", "add_guidance", "predict_original_sample")  # what the inversion of an image needs
PROBE_MEAN, PROBE_STD, PROBE_PIXELS = 0.2, 0.35, 1024  # nearly all within ±1, so that clipping changes little
PROBE_STEPS, PROBE_ERROR = 50, 0.25  # largest error of mean and deviation, as parts of the deviation
MEAN_SHIFT, NOISE_LEFT = 0.4, 1.5  # the same with the steps of a call, which may be few: more than blur is warned of


def check_scheduler(
    scheduler: Any,
    noise_schedule: Mapping[str, Any] | None,
    num_inference_steps: Any,
    *,
    eta: float = 0.0,
    from_image: bool = False,
    flow: bool = False,
    learned_variance: bool = False,
    reversible: bool = False,
) -> None:
    """Raise a ValueError if a scheduler cannot sample from a pipeline's network; warn if the steps are too few for it.

    Args:
        scheduler: The pipeline's scheduler at the time of a call.
        noise_schedule: The noise that the network was trained with, see `describe_noise`; None: that of the scheduler.
        num_inference_steps: Number of denoising steps.
        eta: η of the steps, see `denoising_step`.
        from_image: Whether sampling starts from noised images, in the middle of the timesteps.
        flow: Whether the pipeline's networks may be trained with flow matching.
        learned_variance: Whether the network also predicts the variance.
        reversible: Whether steps need inverses, as those of a `ReversibleDDIMScheduler`.

    Raises:
        ValueError: With what was got, what was expected, and the line to write.
    """
    if scheduler is None:
        raise ValueError("This pipeline has no scheduler. Load it with one: DiffusionPipeline.from_pretrained(…).")
    trained = dict(noise_schedule or describe_noise(scheduler) or {})
    most = trained["num_train_timesteps"]
    check_counts(num_inference_steps=num_inference_steps)
    if num_inference_steps > most:
        raise ValueError(
            f"num_inference_steps={num_inference_steps}; expected at most {most}, the timesteps of training."
        )
    tried = min(PROBE_STEPS, most)
    problem = _difference(scheduler, trained, flow, learned_variance, reversible)
    for strength in (1.0, *([MIDDLE] if from_image else [])):
        problem = problem or "".join(_try_scheduler(scheduler, trained, tried, float(eta), strength))
    failure, noise_left = (
        ("", "") if problem else _try_scheduler(scheduler, trained, int(num_inference_steps), float(eta))
    )
    problem = problem or failure
    if problem:
        config = "pipe.scheduler.config" if noise_schedule is None else 'pipe.config["noise_schedule"]'
        raise ValueError(
            f"The scheduler, a {type(scheduler).__name__}, does not fit this network: {problem}. "
            + _expected(trained, config, reversible)
        )
    if noise_left:
        warnings.warn(
            f"num_inference_steps={num_inference_steps} is too few for this {type(scheduler).__name__}, so noise is "
            f"left: {noise_left}. Take more steps, or another scheduler or timestep_spacing.",
            stacklevel=3,
        )


def _difference(
    scheduler: Any, trained: Mapping[str, Any], flow: bool, learned_variance: bool, reversible: bool
) -> str | None:
    """Say in what a scheduler differs from what the network needs, as far as its configuration shows it."""
    own = describe_noise(scheduler) or {}
    expected, kind = trained["prediction_type"], own["prediction_type"]
    products: Any = getattr(scheduler, "alphas_cumprod", None)
    if reversible and not all(hasattr(scheduler, name) for name in REVERSIBLE):
        return "its steps have no inverses"
    if not (hasattr(scheduler, "set_timesteps") and hasattr(scheduler, "step")):
        return "it has no set_timesteps and step"
    if expected not in PREDICTION_TYPES or (expected == FLOW and not flow):
        known = PREDICTION_TYPES if flow else PREDICTION_TYPES[:-1]
        return f"prediction_type={expected!r}, where networks of this pipeline predict {', '.join(known)}"
    if kind == FLOW != expected and products is None:
        return "it has no betas (alphas_cumprod), so it is for another kind of noise, such as flow matching or EDM"
    if kind != expected:
        return f"it takes prediction_type={kind!r}, and the network predicts {expected!r}"
    if uses_learned_variance(scheduler) and not learned_variance:
        return f"variance_type={scheduler.variance_type!r}, and the network predicts no variance"
    if expected == FLOW:
        return None
    try:
        known_products = alphas_cumprod(trained)
    except NotImplementedError as error:
        return f"its betas are unknown ({error})"
    if products.shape != known_products.shape or not torch.allclose(
        products.float().cpu(), known_products, rtol=1e-3, atol=1e-6
    ):
        middle = len(known_products) // 2
        got = (
            f"{float(products[middle]):.3g} at timestep {middle}"
            if len(products) > middle
            else f"{len(products)} steps"
        )
        return (
            f"its betas differ from those of training (ᾱ is {got}; {float(known_products[middle]):.3g} of "
            f"{len(known_products)} steps in training)"
        )
    return None


def _expected(trained: Mapping[str, Any], config: str, reversible: bool) -> str:
    """Describe the schedulers that fit, and one as code."""
    if trained["prediction_type"] == FLOW:
        kind = "for flow matching, such as FlowMatchEulerDiscreteScheduler"
        code = f"FlowMatchEulerDiscreteScheduler(num_train_timesteps={trained['num_train_timesteps']})"
    elif reversible:
        kind = "with inverse steps and the prediction type and betas of training"
        code = f"ReversibleDDIMScheduler.from_config({config})"
    else:
        kind = "for diffusion with the prediction type and betas of training, such as DDIM, DPM-Solver, UniPC or Euler"
        code = f'DDIMScheduler.from_config({config}, timestep_spacing="trailing", clip_sample=False)'
    return f"Expected one {kind}. Write: pipe.scheduler = {code}"


def _try_scheduler(
    scheduler: Any, trained: Mapping[str, Any], steps: int, eta: float, strength: float = 1.0
) -> tuple[str, str]:
    """Say why a scheduler cannot denoise, and in what its samples from a known Gaussian differ from it; else "", "".

    With the steps that schedulers are tried with, mean and deviation must be right; with others, which may be few, no
    noise may be left.
    """
    kind: Any = type(scheduler)
    config = json.dumps(json.loads(scheduler.to_json_string()), sort_keys=True)
    most, (shift, widest) = trained["num_train_timesteps"], _prior_mismatch(trained)
    how = f"with num_inference_steps={steps}" + (f" and strength={strength}" if strength < 1 else "")
    try:
        mean, std = _sample_gaussian(kind, config, json.dumps(trained, sort_keys=True), steps, eta, strength)
    except Exception as error:  # whatever a scheduler for another kind of model raises
        return f"it cannot denoise pixels with a network alone, {how} ({error})", ""
    many = min(PROBE_STEPS, most)
    part = PROBE_ERROR * PROBE_STEPS / many
    low, high, far = (1 - part, 1 + part, part) if steps == many else (0, NOISE_LEFT, MEAN_SHIFT)
    if low * PROBE_STD < std < high * widest and abs(mean - PROBE_MEAN) < far * PROBE_STD + shift:
        return "", ""
    return "", (
        f"tried on pixels of mean {PROBE_MEAN} and standard deviation {PROBE_STD}, {how} it generates those of mean "
        f"{mean:.2g} and standard deviation {std:.2g}"
    )


def _prior_mismatch(trained: Mapping[str, Any]) -> tuple[float, float]:
    """Error of the mean, and the deviation, of exact samples that start from unit noise, as all samplers do.

    They are 0 and `PROBE_STD` if training ends in pure noise.
    """
    a, sigma = (float(scale) for scale in noise_scales(trained, trained["num_train_timesteps"] - 1))
    widest = PROBE_STD / (a**2 * PROBE_STD**2 + sigma**2) ** 0.5
    return widest * a * PROBE_MEAN, widest


@lru_cache(maxsize=256)
def _sample_gaussian(
    scheduler_class: Any, config: str, trained: str, steps: int, eta: float, strength: float
) -> tuple[float, float]:
    """Mean and standard deviation of samples from a known Gaussian.

    Args:
        scheduler_class: Class of the scheduler.
        config: Its configuration, as JSON.
        trained: The network's noise, as JSON.
        steps: Number of steps.
        eta: η.
        strength: Part of the steps that is taken, from samples of the Gaussian with the noise of the first.
    """
    noise = json.loads(trained)
    quantiles = torch.special.ndtri((torch.arange(PROBE_PIXELS, dtype=torch.float64) + 0.5) / PROBE_PIXELS)
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # of schedulers that take no generator or device
        scheduler = scheduler_class.from_config(json.loads(config))
        learned = uses_learned_variance(scheduler)
        scheduler.set_timesteps(steps)
        unit = quantiles.float().view(1, 1, 32, -1)
        timesteps = remaining_timesteps(scheduler, steps, strength)
        x = scale_noise(scheduler, unit)
        if strength < 1:
            shuffled = unit.flatten()[torch.randperm(PROBE_PIXELS, generator=generator)].view_as(unit)
            x = add_noise(scheduler, PROBE_MEAN + PROBE_STD * shuffled, unit, timesteps[:1])
        for i, t in enumerate(timesteps):
            x = denoising_step(scheduler, lambda x, t: _exact(noise, x, t, learned), x, i, t, generator, eta)
    return float(x.mean()), float(x.std())


def _exact(noise: Mapping[str, Any], x: torch.Tensor, t: Any, learned_variance: bool) -> torch.Tensor:
    """What the best network predicts for pixels of N(`PROBE_MEAN`, `PROBE_STD`²)."""
    a, sigma = noise_scales(noise, t)
    clean = PROBE_MEAN + a * PROBE_STD**2 * (x - a * PROBE_MEAN) / (a**2 * PROBE_STD**2 + sigma**2)
    epsilon = (x - a * clean) / sigma.clamp_min(1e-6)
    predicted = {
        "epsilon": epsilon,
        "sample": clean,
        "v_prediction": a * epsilon - sigma * clean,
        FLOW: epsilon - clean,
    }[noise["prediction_type"]]
    predicted = predicted.nan_to_num()  # of inputs that a scheduler for another kind of noise makes
    return torch.cat([predicted, -torch.ones_like(predicted)], dim=1) if learned_variance else predicted
