"""Load weights of other projects without running code, and check that they are complete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from meddiffusers.data.io.library_errors import UnreadableError, decoding


def load_checkpoint(path: str | Path, within: str | None = None) -> dict[str, torch.Tensor]:
    """Load weights by name to the CPU, from a .safetensors file, or from a pickle of which only tensors are read.

    Args:
        path: The file.
        within: Key of a pickled dictionary under which the weights may be.

    Raises:
        UnreadableError: The file is missing or damaged, or holds something other than a state dict.
    """
    path, expected = Path(path), "a state dict, weights by name"
    if not path.is_file():
        raise UnreadableError(str(path), "no such file", expected, "check the path")
    with decoding(str(path), expected):
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(content, dict) and isinstance(content.get(within), dict):
        content = content[within]
    if not isinstance(content, dict):
        raise UnreadableError(str(path), f"a {type(content).__name__}", expected, "give the file of the model")
    others = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if others or not content:
        found = f"a dictionary whose entries {_listed(others)} are no tensors" if others else "an empty dictionary"
        remedy = "give the file of the model (not of the optimiser), or save its state dict alone"
        raise UnreadableError(str(path), found, expected, remedy)
    return content


def check_names(needed: set[str], given: Iterable[str]) -> None:
    """Raise a ValueError if weights are missing or left over."""
    missing, left = sorted(needed.difference(given)), sorted(set(given) - needed)
    if missing or left:
        raise ValueError(
            f"weights missing: {_listed(missing)}; left over: {_listed(left)}; expected those of one "
            "network, whole and unchanged: give such a checkpoint."
        )


def check_shapes(shapes: Mapping[str, tuple[torch.Size, torch.Size]]) -> None:
    """Raise a ValueError if shapes, (got, expected) by weight, differ."""
    wrong = [f"{name} {tuple(got)} instead of {tuple(due)}" for name, (got, due) in shapes.items() if got != due]
    if wrong:
        raise ValueError(
            f"weights of a wrong shape: {_listed(wrong)}; give a checkpoint of the kind that is converted."
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") if names else "none"
