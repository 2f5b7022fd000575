"""Describe a repository from its files, without loading weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meddiffusers.evaluation.report import read_metrics
from meddiffusers.hub.card import card_metadata
from meddiffusers.hub.checks import INDEX, components
from meddiffusers.hub.training_config import TrainingRecord
from meddiffusers.hub.weights import regular_files, shapes_of
from meddiffusers.utils.reading import read_json, read_text


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
    """Describe a repository on disk, in which `checks.repository_issues` found nothing.

    Raises:
        ValueError: The card, the metrics or the training record are damaged.
    """
    index, card = read_json(folder / INDEX), folder / "README.md"
    TrainingRecord.read(folder)
    return Description(
        pipeline=str(index["_class_name"]),
        components=[_component(folder / name, *entry) for name, entry in components(index).items()],
        licence=_licence(card) if card.is_file() else "no card",
        metrics=read_metrics(folder)["metrics"] if (folder / "metrics.json").is_file() else [],
        megabytes=sum(path.stat().st_size for path in regular_files(folder)) / 1e6,
    )


def _licence(card: Path) -> str:
    text = read_text(card)
    if text.startswith("---\n") and "\n---" not in text:
        raise ValueError("The metadata of the card have no end. Add a second line of ---.")
    return str(card_metadata(text).get("license") or "not stated")


def _component(folder: Path, library: str, class_name: str) -> Component:
    shapes = [shape for weights in folder.glob("*.safetensors") for _, shape in shapes_of(weights).values()]
    files = (folder / "config.json", folder / "scheduler_config.json")
    config: dict[str, Any] = next((read_json(file) for file in files if file.is_file()), {})
    return Component(folder.name, class_name, library, sum(map(math.prod, shapes)), config)


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
