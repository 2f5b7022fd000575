"""Describe a repository from its files, without loading weights."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from safetensors import safe_open


@dataclass(frozen=True)
class Component:
    """A component of a pipeline; `parameters` is 0 if it has no weights."""

    name: str
    class_name: str
    library: str
    parameters: int
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Description:
    """Pipeline class, components, licence, metrics and size of a repository."""

    pipeline: str
    components: list[Component]
    licence: str
    metrics: list[dict[str, Any]]
    megabytes: float

    @property
    def inputs(self) -> list[str]:
        """Expected shape, intensities and attributes of images, for each component that defines them."""
        return [line for component in self.components for line in _inputs(component)]


def describe(folder: Path) -> Description:
    """Describe a repository on disk, in which `checks.repository_issues` found nothing."""
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    parts = {name: entry for name, entry in index.items() if isinstance(entry, list) and entry[0] is not None}
    card = folder / "README.md"
    metrics = folder / "metrics.json"
    return Description(
        pipeline=str(index["_class_name"]),
        components=[_component(folder / name, *entry) for name, entry in parts.items() if name != "_class_name"],
        licence=str(ModelCard.load(card).data.license or "not stated") if card.is_file() else "no card",
        metrics=json.loads(metrics.read_text(encoding="utf-8"))["metrics"] if metrics.is_file() else [],
        megabytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6,
    )


def _component(folder: Path, library: str, class_name: str) -> Component:
    parameters = 0
    for weights in folder.glob("*.safetensors"):
        with safe_open(weights, framework="pt") as tensors:
            parameters += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    files = (folder / "config.json", folder / "scheduler_config.json")
    config: dict[str, Any] = next(
        (json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()), {}
    )
    return Component(folder.name, class_name, library, parameters, config)


def _inputs(component: Component) -> list[str]:
    config = component.config
    if "in_channels" not in config or "sample_size" not in config:
        return []
    size, value_range = config["sample_size"], config.get("value_range")
    height, width = size if isinstance(size, list) else (size, size)
    lines = [f"{component.name}: {config['in_channels']} channel(s) of {height}×{width} pixels"]
    if value_range:
        lines[0] += f", intensities in [{value_range[0]:g}, {value_range[1]:g}]"
    calibration = config.get("calibration") or {}
    for name in config.get("attributes", []):
        if name in calibration:
            low, *_, high = calibration[name]["values"]
            lines.append(f"attribute {name}: {low:.3g} to {high:.3g} {calibration[name]['unit']}".rstrip())
        else:
            lines.append(f"attribute {name}: not calibrated")
    return lines
