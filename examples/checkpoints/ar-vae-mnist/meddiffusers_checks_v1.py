"""Checks of what is passed to a call, and of what leaves a network.

Several published pipelines import this file from beside them; it is published with each.
"""

from __future__ import annotations

import math
from typing import Any

import torch

PUBLISHED_AS = "meddiffusers_checks_v1"  # the file has the same name in a repository, so imports find it in both places


def check_counts(**counts: Any) -> None:
    """Raise a ValueError if an argument, given by name, is not an integer of at least 1."""
    if all(hasattr(value, "__index__") and not isinstance(value, bool) and value >= 1 for value in counts.values()):
        return
    given = " and ".join(f"{name}={value!r}" for name, value in counts.items())
    raise ValueError(f"{given}; expected at least 1{' of each' if len(counts) > 1 else ''}, as an integer.")


def check_numbers(**numbers: Any) -> None:
    """Raise a ValueError if an argument, given by name, is not a finite number."""
    for name, value in numbers.items():
        if isinstance(value, bool) or not hasattr(value, "__float__") or not math.isfinite(value):
            raise ValueError(f"{name}={value!r}; expected a finite number.")


def check_given_numbers(**numbers: Any) -> None:
    """Raise a ValueError if an argument that is not None, given by name, is not a finite number."""
    check_numbers(**{name: value for name, value in numbers.items() if value is not None})


def check_generators(generator: Any, num_images: int) -> None:
    """Raise a ValueError for what is no generator, or a list of another length than the number of images."""
    given = generator if isinstance(generator, list) else [generator]
    if not all(each is None or isinstance(each, torch.Generator) for each in given):
        raise ValueError(
            f"generator={generator!r}; expected a generator, such as torch.Generator().manual_seed(0), or a list of "
            "one for each image."
        )
    if isinstance(generator, list) and len(generator) != num_images:
        raise ValueError(f"Got {len(generator)} generators for {num_images} images. Give one for each image.")


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
