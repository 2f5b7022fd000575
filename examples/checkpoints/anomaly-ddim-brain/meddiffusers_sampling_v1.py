"""What a scheduler must do to sample from a network, checked at each call, and one denoising step.

A network fits one kind of noise, that of its training. A pipeline keeps a description of it in its configuration,
`noise_schedule`, so that a scheduler assigned later (`pipe.scheduler = …`) is compared with it.

| kind of noise | x_t | `prediction_type`: what the network predicts |
|---|---|---|
| diffusion (Ho et al.) | √ᾱ_t x_0 + √(1 − ᾱ_t) ε | "epsilon"; "sample": x_0; "v_prediction": √ᾱ_t ε − √(1−ᾱ_t) x_0 |
| flow matching (Lipman et al.) | (1 − τ) x_0 + τ ε, τ = t / T | "flow_prediction": ε − x_0 |

Whether a scheduler samples from such a network is not looked up but tried: it denoises pixels whose distribution is a
known Gaussian, with the exact network for it. This takes some milliseconds, once for each configuration.

- For diffusion serve DDIM, DDPM, DPM-Solver (multistep and singlestep), UniPC, DEIS, SA-Solver, Euler and KDPM2 (both
  also ancestral), Heun, LMS and PNDM of diffusers, those of them that know the prediction type.
- For flow matching serve FlowMatchEuler and FlowMatchHeun, and DPM-Solver, UniPC, DEIS and SA-Solver with
  `use_flow_sigmas=True` and `prediction_type="flow_prediction"`.
- Refused are other scalings of the noise (EDM, variance-exploding), other betas, inverse schedulers, and those of
  distilled models (LCM, TCD, consistency models), of tokens (VQ-Diffusion, aMUSEd) and of other special models.

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

from .meddiffusers_checks_v1 import check_counts, check_finite

PUBLISHED_AS = (
    "meddiffusers_sampling_v1"  # the file has the same name in a repository, so imports find it in both places
)
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
REVERSIBLE = ("invert_step", "add_guidance", "predict_original_sample")  # what the inversion of an image needs
PROBE_MEAN, PROBE_STD, PROBE_PIXELS, PROBE_STEPS = 0.3, 0.2, 1024, 100  # within ±1, so that clipping changes nothing
PROBE_ERROR = 0.2  # of the mean and of the deviation, as parts of the deviation: 100 steps are not exact


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


def check_scheduler(
    scheduler: Any,
    noise_schedule: Mapping[str, Any] | None,
    num_inference_steps: Any,
    *,
    flow: bool = False,
    learned_variance: bool = False,
    reversible: bool = False,
) -> None:
    """Raise a ValueError if a scheduler cannot sample from a pipeline's network in so many steps.

    Args:
        scheduler: The pipeline's scheduler at the time of a call.
        noise_schedule: The noise that the network was trained with, see `describe_noise`; None: that of the scheduler.
        num_inference_steps: Number of denoising steps.
        flow: Whether the pipeline's networks may be trained with flow matching.
        learned_variance: Whether the network also predicts the variance.
        reversible: Whether steps need inverses, as those of a `ReversibleDDIMScheduler`.

    Raises:
        ValueError: With what was got, what was expected, and the line to write.
    """
    if scheduler is None:
        raise ValueError("This pipeline has no scheduler. Load it with one: DiffusionPipeline.from_pretrained(…).")
    trained = dict(noise_schedule or describe_noise(scheduler) or {})
    problem = _difference(scheduler, trained, flow, learned_variance, reversible)
    if problem is None:
        config = json.dumps(json.loads(scheduler.to_json_string()), sort_keys=True)
        kind: Any = type(scheduler)
        problem = _failure(kind, config, json.dumps(trained, sort_keys=True))
    if problem is not None:
        raise ValueError(
            f"The scheduler, a {type(scheduler).__name__}, does not fit this network: {problem}. Expected one for its "
            f"kind of noise. Write: pipe.scheduler = {_remedy(trained, noise_schedule is None, reversible)}"
        )
    _check_steps(num_inference_steps, trained["num_train_timesteps"])


def uses_learned_variance(scheduler: Any) -> bool:
    """Return whether steps use a variance that the network predicts beside the mean."""
    # an attribute of schedulers that use it; the configuration may come from another scheduler
    return vars(scheduler).get("variance_type") in ("learned", "learned_range")


def scale_noise(scheduler: Any, noise: torch.Tensor) -> torch.Tensor:
    """Scale unit noise to the latents from which a scheduler starts, after its `set_timesteps`."""
    return noise * getattr(scheduler, "init_noise_sigma", 1.0)


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


def _check_steps(steps: Any, most: int) -> None:
    check_counts(num_inference_steps=steps)
    if steps > most:
        raise ValueError(f"num_inference_steps={steps}; expected at most {most}, the timesteps of training.")


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
    known_products = alphas_cumprod(trained)
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


def _remedy(trained: Mapping[str, Any], unknown: bool, reversible: bool) -> str:
    """A scheduler that fits, as code."""
    if trained["prediction_type"] == FLOW:
        return f"FlowMatchEulerDiscreteScheduler(num_train_timesteps={trained['num_train_timesteps']})"
    config = "pipe.scheduler.config" if unknown else 'pipe.config["noise_schedule"]'
    if reversible:
        return f"ReversibleDDIMScheduler.from_config({config})"
    return f'DDIMScheduler.from_config({config}, timestep_spacing="trailing", clip_sample=False)'


@lru_cache
def _step_parameters(scheduler_class: Any) -> frozenset[str]:
    return frozenset(inspect.signature(scheduler_class.step).parameters)


@lru_cache
def _alphas_cumprod(betas: str) -> torch.Tensor:
    return DDPMScheduler(**json.loads(betas)).alphas_cumprod


@lru_cache(maxsize=256)
def _failure(scheduler_class: Any, config: str, trained: str) -> str | None:
    """Say in what a scheduler's samples from a known Gaussian differ from it; None if they do not.

    Args:
        scheduler_class: Class of the scheduler.
        config: Its configuration, as JSON.
        trained: The network's noise, as JSON.
    """
    noise = json.loads(trained)
    mean = torch.tensor([-PROBE_MEAN, PROBE_MEAN]).view(1, 2, 1, 1)
    quantiles = torch.special.ndtri((torch.arange(PROBE_PIXELS, dtype=torch.float64) + 0.5) / PROBE_PIXELS)
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):  # of schedulers that take no generator
        try:
            scheduler = scheduler_class.from_config(json.loads(config))
            learned = uses_learned_variance(scheduler)
            scheduler.set_timesteps(PROBE_STEPS)
            x = scale_noise(scheduler, quantiles.float().view(1, 1, 32, -1).repeat(1, 2, 1, 1))
            for i, t in enumerate(scheduler.timesteps):
                x = denoising_step(scheduler, lambda x, t: _exact(noise, mean, x, t, learned), x, i, t, generator)
        except Exception as error:  # whatever a scheduler for another kind of model raises
            return f"it cannot denoise pixels with a network alone ({error})"
    got_mean, got_std = x.mean(dim=(2, 3)).flatten(), x.std(dim=(2, 3)).flatten()
    errors = torch.stack([got_mean - mean.flatten(), got_std - PROBE_STD]).abs() / PROBE_STD
    if bool((errors < PROBE_ERROR).all()):
        return None
    return (
        f"from pixels of mean {PROBE_MEAN} and standard deviation {PROBE_STD} it generates those of "
        f"{float(got_mean[1]):.2g} and {float(got_std[1]):.2g}"
    )


def _exact(
    noise: Mapping[str, Any], mean: torch.Tensor, x: torch.Tensor, t: Any, learned_variance: bool
) -> torch.Tensor:
    """What the best network predicts for pixels of N(mean, `PROBE_STD`²), at any timestep."""
    if noise["prediction_type"] == FLOW:
        sigma = torch.as_tensor(t, dtype=torch.float32) / noise["num_train_timesteps"]
        a = 1 - sigma
    else:
        products = alphas_cumprod(noise)
        time = torch.as_tensor(t, dtype=torch.float32).clamp(0, len(products) - 1)
        below, above = products[time.floor().long()], products[time.ceil().long()]
        product = below + (above - below) * time.frac()
        a, sigma = product.sqrt(), (1 - product).sqrt()
    clean = mean + a * PROBE_STD**2 * (x - a * mean) / (a**2 * PROBE_STD**2 + sigma**2)
    epsilon = (x - a * clean) / sigma.clamp_min(1e-6)
    predicted = {
        "epsilon": epsilon,
        "sample": clean,
        "v_prediction": a * epsilon - sigma * clean,
        FLOW: epsilon - clean,
    }[noise["prediction_type"]]
    return torch.cat([predicted, -torch.ones_like(predicted)], dim=1) if learned_variance else predicted
