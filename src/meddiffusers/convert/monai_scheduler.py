"""Convert the noise scheduler of a MONAI bundle to one of diffusers with the same steps.

| scheduler of MONAI | here |
|---|---|
| `DDIMScheduler` | `DDIMScheduler` with the same timesteps and clipping |
| `DDPMScheduler` | `DDPMScheduler`; its steps are the same with as many steps as in training |
| `PNDMScheduler`, `RFlowScheduler`, others | none: diffusers takes other steps, or expects other predictions |

MONAI itself computes the betas. Those of linear, scaled linear and cosine schedules have a name in diffusers, others
are written out as `trained_betas`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from monai.networks import schedulers as peers

from meddiffusers.convert.monai_references import References, is_disabled, unevaluated
from meddiffusers.hub.configurations import MAX_TRAIN_TIMESTEPS

NAMES = ("scheduler", "noise_scheduler")  # of entries that may lack a `_target_`
TARGET = re.compile(r"(?:(?:monai|generative)\.networks\.schedulers\.(?:\w+\.)?)?(DDIMScheduler|DDPMScheduler)")
CLASSES: dict[str, Any] = {"DDIMScheduler": DDIMScheduler, "DDPMScheduler": DDPMScheduler}
OF_LEARNING_RATES = ("torch.optim.", "monai.optimizers.", "ignite.")
SCHEDULES = {"linear_beta": "linear", "scaled_linear_beta": "scaled_linear", "cosine": "squaredcos_cap_v2"}
OLD_SETTINGS = ("beta_schedule", "schedule_beta")  # for `schedule`, whose values had no ending `_beta`
FLAGS = ("clip_sample", "set_alpha_to_one")
_EXPECTED = "expected MONAI's DDIMScheduler or DDPMScheduler"


def scheduler_of(settings: Mapping[str, Any]) -> DDIMScheduler | DDPMScheduler:
    """Return the scheduler that the configurations describe, the first if several have the same noise.

    Args:
        settings: Entries of the configurations.

    Raises:
        ValueError: They describe none, one without an equal in diffusers, or several of different noise.
    """
    built = {name: _converted(name, entry) for name, entry in _described(settings)}
    if not built:
        raise ValueError(
            f"The configurations describe no noise scheduler; {_EXPECTED} in an entry 'scheduler' or "
            "'noise_scheduler'. Add the one of the training."
        )
    (first, scheduler), *others = built.items()
    for name, other in others:
        same = other.config["prediction_type"] == scheduler.config["prediction_type"]
        if not same or not torch.equal(other.betas, scheduler.betas):
            raise ValueError(
                f"The configurations describe different noise in {first} and {name}; expected that of the training. "
                "Remove the other."
            )
    return scheduler


def _described(settings: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Find the entries of noise schedulers, by their place; references in them are followed."""
    references = References(settings)
    named = [((name,), settings[name]) for name in settings if name in NAMES]
    others = [item for name in settings if name not in NAMES for item in _components(settings[name], (name,))]
    for place, raw in [*named, *others]:
        if isinstance(raw, dict) and str(raw.get("_target_")).startswith(OF_LEARNING_RATES):
            continue
        entry = references.value(_without_notes(raw), place)
        if not isinstance(entry, dict):
            raise ValueError(f"The configurations have {place[0]} as {entry!r}; {_EXPECTED}. Write it as an object.")
        if not is_disabled(entry):
            yield "::".join(place), entry


def _components(value: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Find the objects in a value whose `_target_` may be a scheduler."""
    if isinstance(value, dict) and str(value.get("_target_", "")).endswith("Scheduler"):
        yield place, value
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from _components(part, (*place, str(key)))


def _without_notes(entry: Any) -> Any:
    """Leave out what MONAI does not pass on, and which may refer to anything."""
    notes = ("_requires_", "_desc_", "_mode_")
    return {key: value for key, value in entry.items() if key not in notes} if isinstance(entry, dict) else entry


def _converted(name: str, entry: Mapping[str, Any]) -> Any:
    """Build the scheduler that an entry describes.

    Args:
        name: Name of the entry, for messages.
        entry: Its values. Without `_target_` they describe the noise of a DDIM scheduler that does not clip.
    """
    target = entry.get("_target_", "DDIMScheduler")
    known = TARGET.fullmatch(str(target))
    if known is None:
        raise ValueError(
            f"The configurations have a {target} in {name}, which has no equal in diffusers; {_EXPECTED}. If its "
            "network predicts noise, samples or velocities of diffusion, write one of these with the same schedule."
        )
    class_name = known[1]
    given = {_new(key): value for key, value in entry.items() if not key.startswith("_")}
    if len(twice := [key for key in ("schedule", *OLD_SETTINGS) if key in entry]) > 1:
        raise ValueError(
            f"The configuration of {name} has {' and '.join(twice)}; expected one of them. Remove the other."
        )
    for key in OLD_SETTINGS:
        if isinstance(old := entry.get(key), str):
            given["schedule"] = old if old in SCHEDULES or old.endswith("_beta") else f"{old}_beta"
    _check_settings(name, given)
    try:
        peer = getattr(peers, class_name)(**({} if "_target_" in entry else {"clip_sample": False}) | given)
    except Exception as error:  # whatever MONAI raises for settings that it does not know
        text = " ".join(str(error).split())
        raise ValueError(
            f"The configuration of {name} describes no {class_name} of MONAI: {text}. Correct it."
        ) from error
    return CLASSES[class_name](**_noise(peer, given), **_steps(name, peer))


def _new(key: str) -> str:
    return "schedule" if key in OLD_SETTINGS else key


def _check_settings(name: str, given: Mapping[str, Any]) -> None:
    """Refuse expressions, and values that MONAI would take for others."""
    if expressions := [key for key, value in given.items() if unevaluated(value)]:
        raise ValueError(
            f"The configuration of {name} has expressions for {', '.join(expressions)}, which are not evaluated. "
            "Write the values instead."
        )
    steps = given.get("num_train_timesteps", 1000)
    if type(steps) is not int or not 0 < steps <= MAX_TRAIN_TIMESTEPS:
        raise ValueError(
            f"The configuration of {name} has num_train_timesteps as {steps!r}; expected 1 to {MAX_TRAIN_TIMESTEPS}."
        )
    if wrong := [key for key in FLAGS if not isinstance(given.get(key, False), bool)]:
        raise ValueError(f"The configuration of {name} has {wrong[0]} as {given[wrong[0]]!r}; expected true or false.")


def _noise(peer: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of diffusers for the noise of MONAI's scheduler."""
    if not bool(((peer.betas > 0) & (peer.betas < 1)).all()):
        raise ValueError("The noise scheduler of the configurations has betas outside 0 to 1. Correct its schedule.")
    noise = {"num_train_timesteps": peer.num_train_timesteps, "prediction_type": str(peer.prediction_type)}
    named = SCHEDULES.get(given.get("schedule", "linear_beta"))
    if named:
        ends = {key: given[key] for key in ("beta_start", "beta_end") if key in given}
        by_name = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": named, **ends}
        own: Any = DDIMScheduler(**noise, **by_name)
        if torch.allclose(own.alphas_cumprod, peer.alphas_cumprod, rtol=0, atol=1e-6):
            return {**noise, **by_name}
    return {**noise, "trained_betas": peer.betas.tolist()}


def _steps(name: str, peer: Any) -> dict[str, Any]:
    """Return the arguments of diffusers for the steps of MONAI's scheduler."""
    low, high = peer.clip_sample_values
    offset, variance = getattr(peer, "steps_offset", 0), str(getattr(peer, "variance_type", "fixed_small"))
    unequal = {
        f"clip_sample_min={low} and clip_sample_max={high}": peer.clip_sample and not 0 < high == -low,
        f"steps_offset={offset}": offset != 0,
        f"variance_type={variance}": not variance.startswith("fixed"),
    }
    if found := [text for text, is_unequal in unequal.items() if is_unequal]:
        raise ValueError(
            f"The configuration of {name} has {', '.join(found)}, which has no equal in diffusers; expected a "
            "symmetric range, no offset and a fixed variance."
        )
    own = (
        {"set_alpha_to_one": bool(peer.final_alpha_cumprod == 1)}
        if isinstance(peer, peers.DDIMScheduler)
        else {"variance_type": variance}
    )
    clipping = {"clip_sample": peer.clip_sample, "clip_sample_range": float(high)} if peer.clip_sample else {}
    return {"timestep_spacing": "linspace", "clip_sample": False, **clipping, **own}
