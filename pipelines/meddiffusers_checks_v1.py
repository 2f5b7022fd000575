"""Checks of the components of a pipeline, of what is passed to a call, and of what leaves a network.

Each raises a ValueError that says what was got and what was expected. Several published pipelines import this file from
beside them; it is published with each.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

PUBLISHED_AS = "meddiffusers_checks_v1"  # the file has the same name in a repository, so imports find it in both places
SCHEDULER = ("config", "set_timesteps")  # what every scheduler has
NOISE = {"prediction_type", "num_train_timesteps"}  # what every noise schedule has
CALLBACK = "f(pipeline, step, timestep, tensors)"


def check_component(name: str, component: Any, optional: bool) -> None:
    """Raise a ValueError if a component is no instance of what its name says.

    Args:
        name: Its name in the pipeline: "scheduler", "tokenizer", or that of a model.
        component: The component.
        optional: Whether it may be None.
    """
    if component is None and optional:
        return
    if name == "scheduler":
        fits, example = all(hasattr(component, each) for each in SCHEDULER), "DDIMScheduler.from_config(…)"
    elif name == "tokenizer":
        fits, example = hasattr(component, "model_max_length"), "AutoTokenizer.from_pretrained(…)"
    else:
        fits, example = hasattr(component, "config") and not hasattr(component, "step"), "MODEL.from_pretrained(…)"
    if isinstance(component, type) or not fits:
        plain = component is None or isinstance(component, (str, int, float))
        got = repr(component) if plain else f"a {type(component).__name__}"
        got = f"the class {component.__name__}" if isinstance(component, type) else got
        raise ValueError(f"The {name} is {got}; expected an instance of a {name}: pipe.{name} = {example}.")


def check_setting(name: str, value: Any) -> None:
    """Raise a ValueError if a setting of a pipeline cannot be meant; settings of other names may have any value.

    Args:
        name: "spacing", "image_range", "mask_range", "modalities" or "noise_schedule".
        value: Its value; lists may also be given by index.
    """
    items = list(value.values()) if isinstance(value, Mapping) else value
    if name == "spacing" and value is not None:
        check_numbers(spacing=value)
        if value <= 0:
            raise ValueError(f"spacing={value!r}; expected a length in mm above 0, or None if it is unknown.")
    elif name in ("image_range", "mask_range"):
        check_numbers(**{f"{name}[{i}]": end for i, end in enumerate(items)})
        if len(items) != 2 or items[0] == items[1]:
            raise ValueError(f"{name}={items!r}; expected two different numbers, the values of 0 and 1.")
    elif name == "modalities":
        indices = value if isinstance(value, Mapping) else {}
        distinct = items and all(isinstance(each, str) for each in items) and len(set(items)) == len(items)
        if not distinct or not all(str(index).isdecimal() for index in indices):
            raise ValueError(f"modalities={value!r}; expected different names, at least one, as a list or by index.")
    elif name == "noise_schedule" and value is not None and not (isinstance(value, Mapping) and set(value) >= NOISE):
        raise ValueError(f"noise_schedule={value!r}; expected that of describe_noise(scheduler).")


def check_counts(**counts: Any) -> None:
    """Raise a ValueError if an argument, given by name, is not an integer of at least 1."""
    if all(hasattr(value, "__index__") and not isinstance(value, bool) and value >= 1 for value in counts.values()):
        return
    given = " and ".join(f"{name}={value!r}" for name, value in counts.items())
    raise ValueError(f"{given}; expected at least 1{' of each' if len(counts) > 1 else ''}, as an integer.")


def check_given_counts(**counts: Any) -> None:
    """Raise a ValueError if an argument that is not None, given by name, is not an integer of at least 1."""
    check_counts(**{name: value for name, value in counts.items() if value is not None})


def check_numbers(**numbers: Any) -> None:
    """Raise a ValueError if an argument, given by name, is not a finite number."""
    for name, value in numbers.items():
        single = not isinstance(value, bool) and hasattr(value, "__float__") and not getattr(value, "shape", ())
        if not single or not math.isfinite(value):
            raise ValueError(f"{name}={value!r}; expected a finite number.")


def check_given_numbers(**numbers: Any) -> None:
    """Raise a ValueError if an argument that is not None, given by name, is not a finite number."""
    check_numbers(**{name: value for name, value in numbers.items() if value is not None})


def check_fraction(**fractions: Any) -> None:
    """Raise a ValueError if an argument, given by name, is not a number in (0, 1]."""
    check_numbers(**fractions)
    for name, value in fractions.items():
        if not 0 < value <= 1:
            raise ValueError(f"{name}={value!r}; expected a number in (0, 1].")


def check_flags(**flags: Any) -> None:
    """Raise a ValueError if an argument, given by name, is neither True nor False."""
    for name, value in flags.items():
        if type(value).__name__ not in ("bool", "bool_"):  # numpy's too
            raise ValueError(f"{name}={value!r}; expected True or False.")


def check_choice(name: str, value: Any, known: Sequence[str]) -> None:
    """Raise a ValueError if an argument is not one of the known names."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}={value!r} is unknown. Expected one of {', '.join(known)}.")


def check_output_type(output_type: Any, known: Sequence[str]) -> None:
    """Raise a ValueError if `output_type` is not one of the known names."""
    check_choice("output_type", output_type, known)


def check_names(name: str, value: Any) -> list[str] | None:
    """Return one name, or several, as a list; None for None. Raise a ValueError for anything else."""
    names = [value] if isinstance(value, str) else value
    if names is None or (isinstance(names, (list, tuple)) and names and all(isinstance(each, str) for each in names)):
        return None if names is None else list(names)
    raise ValueError(f"Got {name}={value!r}; expected a text, or a list of at least one.")


def check_callback(callback: Any, names: Any, known: Sequence[str] = ("latents",)) -> None:
    """Raise a ValueError if a callback cannot be called after a step, or requests tensors that are not known."""
    if callback is not None and not callable(callback):
        raise ValueError(f"callback_on_step_end={callback!r}; expected a function {CALLBACK}, or None.")
    if callback is not None and not _takes(callback, 4):
        raise ValueError(f"callback_on_step_end takes other arguments; expected a function {CALLBACK}.")
    if not isinstance(names, (list, tuple)):
        raise ValueError(f"callback_on_step_end_tensor_inputs={names!r}; expected a list of {', '.join(known)}.")
    if unknown := [str(name) for name in names if name not in known]:
        raise ValueError(
            f"callback_on_step_end_tensor_inputs has {', '.join(unknown)}; there is only {', '.join(known)}."
        )


def check_returned(returned: Any, tensors: Mapping[str, Any]) -> None:
    """Raise a ValueError if a callback returned what cannot replace the tensors of a step.

    Args:
        returned: What it returned, apart from None.
        tensors: Tensors of the step by name; latents keep their shape.
    """
    if not isinstance(returned, Mapping):
        raise ValueError(
            f"The callback returned a {type(returned).__name__}; expected tensors by name, as it received them: "
            '{"latents": …}, or None.'
        )
    if unknown := [str(name) for name in returned if name not in tensors]:
        raise ValueError(f"The callback returned {', '.join(unknown)}; expected only {', '.join(tensors)}.")
    for name, tensor in returned.items():
        shape = tensors[name].shape
        if not isinstance(tensor, torch.Tensor) or (name == "latents" and tensor.shape != shape):
            got = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise ValueError(f"The callback returned {name} of {got}; expected a tensor of shape {tuple(shape)}.")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"The callback returned {name} with NaN or infinite values; expected finite ones.")


def check_generators(generator: Any, num_images: int) -> None:
    """Raise a ValueError for what is no generator, or a list of another length than the number of images."""
    given = generator if isinstance(generator, list) else [] if generator is None else [generator]
    if not all(isinstance(each, torch.Generator) for each in given):
        raise ValueError(
            f"generator={generator!r}; expected a generator, such as torch.Generator().manual_seed(0), or a list of "
            "one for each image."
        )
    if isinstance(generator, list) and len(generator) != num_images:
        raise ValueError(f"Got {len(generator)} generators for {num_images} images. Give one for each image.")


def check_latents(latents: Any, shape: Sequence[int], any_size: bool = False) -> None:
    """Raise a ValueError if latents that a user gives are no finite floating-point noise of a shape.

    Args:
        latents: The latents.
        shape: The shape (B, c, …).
        any_size: Whether the axes after the second may have other lengths.
    """
    compared = 2 if any_size else len(shape)
    if not isinstance(latents, torch.Tensor):
        problem = f"of type {type(latents).__name__}"
    elif (
        not latents.numel() or latents.ndim != len(shape) or tuple(latents.shape[:compared]) != tuple(shape[:compared])
    ):
        problem = f"of shape {tuple(latents.shape)}"
    elif not latents.is_floating_point():
        problem = f"of the integer type {str(latents.dtype).removeprefix('torch.')}"
    elif not torch.isfinite(latents).all():
        problem = "with NaN or infinite values"
    else:
        return
    raise ValueError(f"Got latents {problem}; expected noise of shape {tuple(shape)}, as a tensor from torch.randn.")


def check_finite(values: torch.Tensor, network: str, step: str) -> None:
    """Raise a ValueError that names network and step if its output holds NaN or infinite values.

    Args:
        values: The output.
        network: Name of the component.
        step: What it was computed for, such as "step 3 of 20".
    """
    if torch.isfinite(values).all():
        return
    raise ValueError(
        f"The output of the {network} holds NaN or infinite values in {step}; expected finite ones. Its weights or "
        "those of an adapter are damaged, or its activations overflow in half precision. Load it again, without the "
        f"adapter, or with dtype=torch.float32 (the output is {str(values.dtype).removeprefix('torch.')})."
    )


def _takes(function: Any, count: int) -> bool:
    """Whether a function can be called with so many arguments; True if its signature is unknown."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of functions that are not written in Python
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True
