"""The settings of LoRA adapters: those of their source, those that their matrices show, and those in memory.

Alpha cannot be seen in the matrices, and decides about the effect of an adapter. `meddiffusers_lora_weights_v1`
imports this file from beside it; it is published with it.
"""

from __future__ import annotations

import gc
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor

PUBLISHED_AS = "meddiffusers_lora_settings_v1"  # also its file name here, so that imports find it in both places
A, B, ALPHA = "lora_A.weight", "lora_B.weight", "alpha"
Layers = dict[str, dict[str, Tensor]]  # matrices and alpha of each layer, by name


def check_metadata(metadata: Any, parts: Iterable[str]) -> dict[str, Any]:
    """Return settings that a user gives, {} for None; raise a ValueError if they are for no part of a pipeline.

    Args:
        metadata: Entries of `LoraConfig` such as {"unet.lora_alpha": 16}.
        parts: Names of the networks that take adapters.
    """
    if metadata is None:
        return {}
    prefixes = tuple(f"{part}." for part in parts)
    if not isinstance(metadata, Mapping) or not all(str(name).startswith(prefixes) for name in metadata):
        raise ValueError(
            f"metadata={metadata!r}; expected entries of LoraConfig by name, which begin with {' or '.join(prefixes)}: "
            '{"unet.lora_alpha": 16}.'
        )
    return dict(metadata)


def entries_of(part: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of `LoraConfig` for a part of a pipeline, without its name."""
    return {name.removeprefix(f"{part}."): v for name, v in settings.items() if name.startswith(f"{part}.")}


def knows_alpha(layers: Layers, entries: Mapping[str, Any]) -> bool:
    """Whether alpha is among the entries, or beside the matrices of the layers."""
    return "lora_alpha" in entries or all(ALPHA in matrices for matrices in layers.values())


def settle(layers: Layers, entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of a `LoraConfig`: the entries, and what they leave out as the matrices show it.

    Raises:
        ValueError: Entries that this version of PEFT lacks, or alpha that is no number or missing for some layers.
    """
    given = _known_entries(entries)
    without = [layer for layer, matrices in layers.items() if ALPHA not in matrices]
    if 0 < len(without) < len(layers) and "lora_alpha" not in given:
        raise ValueError(
            f"Alpha of {len(without)} of the adapter's {len(layers)} layers is missing, such as {without[0]}; expected "
            'it for all. Save or download the adapter again, or give metadata={"unet.lora_alpha": …}.'
        )
    shown = lora_config(layers)
    if "lora_alpha" in given:
        shown["alpha_pattern"] = {}
    return {**shown, **given}


def lora_config(layers: Layers, alphas: Mapping[str, float] | None = None, **entries: Any) -> dict[str, Any]:
    """Describe the matrices as arguments of a `LoraConfig`.

    Args:
        layers: A and B of each layer, maybe with its alpha.
        alphas: Alpha of each layer; by default that beside the matrices, else the rank.
        entries: Further arguments.
    """
    ranks = {layer: len(matrices[A]) for layer, matrices in layers.items()}
    own = {layer: float(matrices[ALPHA]) for layer, matrices in layers.items() if ALPHA in matrices}
    scales = {layer: (alphas or own).get(layer) or rank for layer, rank in ranks.items()}  # kohya's 0 means the rank
    (rank, _), *_ = Counter(ranks.values()).most_common(1)
    (alpha, _), *_ = Counter(scales.values()).most_common(1)
    kinds = {name for matrices in layers.values() for name in matrices}
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {f"^{re.escape(layer)}": one for layer, one in ranks.items() if one != rank},
        "alpha_pattern": {f"^{re.escape(layer)}": one for layer, one in scales.items() if one != alpha},
        "target_modules": sorted(layers),
        "use_dora": any("magnitude" in name for name in kinds),
        "lora_bias": "lora_B.bias" in kinds,
        **entries,
    }


def _known_entries(config: Mapping[str, Any]) -> dict[str, Any]:
    """Entries that this version of PEFT knows; raise a ValueError if others are set, or alpha is no number."""
    known = {field.name for field in fields(LoraConfig)}
    if unknown := [name for name, value in config.items() if name not in known and value and name != "peft_version"]:
        raise ValueError(
            f"The adapter's settings have {', '.join(unknown)}, which this version of peft lacks. Upgrade it."
        )
    if not isinstance(alpha := config.get("lora_alpha", 8), (int, float)) or not abs(alpha) < float("inf"):
        raise ValueError(f"The adapter's settings have lora_alpha={alpha!r}; expected a number.")
    return {name: value for name, value in config.items() if name in known}


def settings_in_memory(layers: Layers) -> dict[str, Any] | None:
    """Settings of the layers in memory that hold these matrices, or equal ones; None if there are none.

    A state dict holds neither alpha nor a reference to its network, so all layers with adapters are searched.
    """
    owners: dict[Any, set[tuple[float, bool]]] = {}
    for layer in _layers_in_memory():
        for name, matrix in layer.lora_A.items():
            scale = float(layer.lora_alpha[name]), bool(getattr(layer, "use_rslora", {}).get(name))
            for key in _identity(matrix.weight):
                owners.setdefault(key, set()).add(scale)
    found = {}
    for layer_name, matrices in layers.items():
        scales = next((owners[key] for key in _identity(matrices[A]) if key in owners), set())
        if len(scales) != 1:
            return None
        (found[layer_name],) = scales
    alphas = {name: alpha for name, (alpha, _) in found.items()}
    return lora_config(layers, alphas, use_rslora=any(rslora for _, rslora in found.values()))


def _layers_in_memory() -> Iterator[LoraLayer]:
    return (thing for thing in gc.get_objects() if issubclass(type(thing), LoraLayer))


def _identity(weight: Any) -> tuple[Any, ...]:
    """What tells a weight from others: first where it lies, then its values in half precision, as they may be saved."""
    if weight.is_meta:
        return ()
    return (weight.data_ptr(), weight.device), weight.detach().to("cpu", torch.float16).numpy().tobytes()
