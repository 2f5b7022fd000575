"""Check the weights of a LoRA adapter: matrices in pairs, of numbers, for parts that networks have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from meddiffusers.hub.vocabulary import known_modules
from meddiffusers.hub.weights import shapes_of

COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2")
FLOATS = ("F64", "F32", "F16", "BF16")
_NAME = re.compile(
    rf"(?:{'|'.join(COMPONENTS)})\.(?P<module>[\w.]+?)\."
    r"(?:(?P<side>lora_A|lora_B|lora\.down|lora\.up)\.weight|lora_B\.bias|lora_magnitude_vector|alpha)"
)
_SECOND = {"lora_A": "lora_B", "lora.down": "lora.up"}
_SAVE = "Write it with save_lora_weights."


def adapter_weight_issues(path: Path) -> list[str]:
    """Check the names, types and shapes of an adapter's weights.

    Returns:
        A sentence for each kind of issue, which begins with the file's name.
    """
    held = shapes_of(path)
    found = {name: _NAME.fullmatch(name) for name in held}
    foreign = [name for name, match in found.items() if match is None]
    strange = [name for name, match in found.items() if match and not _is_module(match["module"])]
    others = [f"{name} as {kind}" for name, (kind, _) in held.items() if kind not in FLOATS]
    issues = [
        f"{path.name} holds {problem} ({names[0]}{', …' if len(names) > 1 else ''}). {_SAVE}"
        for problem, names in (
            ("weights of no adapter", foreign),
            ("weights for a part that no network has", strange),
            ("other than floating-point numbers", others),
        )
        if names
    ]
    return issues or _pair_issues(path.name, {name: shape for name, (_, shape) in held.items()})


def _is_module(name: str) -> bool:
    return all(part.isdecimal() or part in known_modules() for part in name.split("."))


def _pair_issues(file: str, shapes: Mapping[str, list[int]]) -> list[str]:
    """Check that each first matrix (rank, in, …) has a second one (out, rank, …), and each second a first."""
    pairs = [
        (name, name.replace(first, second)) for name in shapes for first, second in _SECOND.items() if first in name
    ]
    seconds = {name for name in shapes if name.endswith(tuple(f".{second}.weight" for second in _SECOND.values()))}
    alone = sorted({first for first, second in pairs if second not in shapes} | (seconds - {name for _, name in pairs}))
    if alone:
        return [f"{file} holds half of an adapter ({alone[0]} without its other half). {_SAVE}"]
    for first, second in pairs:
        a, b = shapes[first], shapes[second]
        if len(a) != len(b) or len(a) < 2 or not 0 < a[0] == b[1]:
            return [f"{file} holds {first} of shape {a} and {second} of shape {b}, which have no common rank. {_SAVE}"]
    return [] if pairs else [f"{file} holds no adapter. {_SAVE}"]
