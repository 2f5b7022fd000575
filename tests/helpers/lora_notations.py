"""The weights of a LoRA adapter under the names that diffusers, PEFT and kohya's scripts give them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def kohya(layers: dict[str, Tensor], alpha: float | None = None) -> dict[str, Tensor]:
    """The names of kohya's scripts, with alpha if it is given."""
    named = {}
    for name, weight in layers.items():
        layer, matrix, _ = name.rsplit(".", 2)
        prefix = f"lora_unet_{layer.replace('.', '_')}"
        named[f"{prefix}.{'lora_down' if matrix == 'lora_A' else 'lora_up'}.weight"] = weight
        if alpha is not None:
            named[f"{prefix}.alpha"] = torch.tensor(float(alpha))
    return named


NOTATIONS: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "PEFT": lambda layers: layers,
    "PEFT, saved": lambda layers: {f"base_model.model.{name}": weight for name, weight in layers.items()},
    "PEFT, with the adapter's name": lambda layers: {
        f"unet.{name.removesuffix('.weight')}.default.weight": weight for name, weight in layers.items()
    },
    "diffusers, older": lambda layers: {
        f"unet.{name.replace('lora_A', 'lora.down').replace('lora_B', 'lora.up')}": t for name, t in layers.items()
    },
    "kohya": lambda layers: kohya(layers),
    "kohya, alpha 0": lambda layers: kohya(layers, alpha=0),
}
