"""State of a denoising call under the names of diffusers, and timesteps that a call chooses.

A callback reads this state, and changes it by `_interrupt` and `_guidance_scale`. Several published pipelines import
this file from beside them; it is published with each.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch

from .meddiffusers_checks_v1 import check_numbers, check_returned

PUBLISHED_AS = "meddiffusers_denoising_v1"  # also its file name here, so that imports find it in both places
Callback = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]


class DenoisingMixin:
    """Comes before `DiffusionPipeline` among the bases of a pipeline whose call denoises in steps."""

    _num_timesteps: int = 0
    _interrupt: bool = False

    @property
    def num_timesteps(self) -> int:
        """Number of timesteps of the current call, or of the last one."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether to skip the remaining steps: a callback sets `_interrupt`, and the current latents are decoded."""
        return self._interrupt


class GuidanceMixin(DenoisingMixin):
    """For pipelines with classifier-free guidance."""

    _guidance_scale: float = 1.0

    @property
    def guidance_scale(self) -> float:
        """Guidance scale of the current step; a callback sets `_guidance_scale` for the steps that follow."""
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the current step is guided."""
        return self._guidance_scale != 1


def run_callback(
    pipeline: Any, callback: Callback | None, names: Sequence[str], i: int, t: Any, tensors: Mapping[str, Any]
) -> dict[str, Any]:
    """Call a callback after a step, and return the tensors with those that it replaces.

    Args:
        pipeline: The pipeline, whose state it may change.
        callback: The callback; None changes nothing.
        names: Names of the tensors that it receives.
        i: Number of the step, from 0.
        t: Its timestep.
        tensors: Tensors of the step by name.

    Raises:
        ValueError: It returned something else than such tensors.
    """
    if callback is None:
        return dict(tensors)
    returned = callback(pipeline, i, t, {name: tensors[name] for name in names})
    if returned is None:
        return dict(tensors)
    check_returned(returned, tensors)
    return {**tensors, **returned}


def guide(
    uncond: torch.Tensor, cond: torch.Tensor, guidance_scale: float, guidance_rescale: float = 0.0
) -> torch.Tensor:
    """Return D(x) + s (D(x, y) − D(x)), with a standard deviation nearer to that of D(x, y) if it is rescaled.

    Args:
        uncond: D(x), (B, …).
        cond: D(x, y), (B, …).
        guidance_scale: s.
        guidance_rescale: φ of Lin et al. 2024, section 3.4.
    """
    guided = uncond + guidance_scale * (cond - uncond)
    if not guidance_rescale:
        return guided
    axes = tuple(range(1, guided.ndim))
    rescaled = guided * cond.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    return guidance_rescale * rescaled + (1 - guidance_rescale) * guided


def num_steps(
    num_inference_steps: int, timesteps: Sequence[float] | None = None, sigmas: Sequence[float] | None = None
) -> int:
    """Return the number of steps of a call, which timesteps or sigmas determine if they are given.

    Raises:
        ValueError: If both are given, or one of them is no sequence of falling numbers.
    """
    if timesteps is not None and sigmas is not None:
        raise ValueError("Got timesteps and sigmas; expected one of them, or num_inference_steps alone.")
    for name, values in (("timesteps", timesteps), ("sigmas", sigmas)):
        if values is not None:
            numbers: Any = values.tolist() if hasattr(values, "tolist") else values
            if not isinstance(numbers, (list, tuple)) or not numbers:
                raise ValueError(f"{name}={values!r}; expected falling numbers of at least 0, as a list.")
            check_numbers(**{f"{name}[{i}]": number for i, number in enumerate(numbers)})
            if any(first <= second for first, second in pairwise(numbers)) or numbers[-1] < 0:
                raise ValueError(f"{name}={list(numbers)}; expected falling numbers of at least 0.")
            return len(numbers)
    return num_inference_steps


def set_timesteps(
    scheduler: Any,
    num_inference_steps: int,
    device: torch.device,
    timesteps: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
) -> None:
    """Set the timesteps of a scheduler: so many, or those that are given.

    Raises:
        ValueError: If timesteps or sigmas are given and the scheduler does not take them.
    """
    choices = {"timesteps": timesteps, "sigmas": sigmas}
    given: dict[str, Any] = {name: list(values) for name, values in choices.items() if values is not None}
    for name in given:
        if name not in inspect.signature(scheduler.set_timesteps).parameters:
            raise ValueError(
                f"Got {name}, and the scheduler, a {type(scheduler).__name__}, chooses its own. Use one that takes "
                "them, such as DPMSolverMultistepScheduler or EulerDiscreteScheduler, or give num_inference_steps."
            )
    scheduler.set_timesteps(**(given or {"num_inference_steps": num_inference_steps}), device=device)


def check_eta(scheduler: Any, eta: float) -> None:
    """Raise a ValueError if η (Song et al. 2021) is not in [0, 1], or not 0 and the scheduler has no such noise."""
    check_numbers(eta=eta)
    if not 0 <= eta <= 1:
        raise ValueError(f"eta={eta}; expected a number in [0, 1].")
    if eta and hasattr(scheduler, "step") and "eta" not in inspect.signature(scheduler.step).parameters:
        raise ValueError(
            f"eta={eta}, and the steps of the scheduler, a {type(scheduler).__name__}, have no eta. Use DDIMScheduler, "
            "or leave it out."
        )
